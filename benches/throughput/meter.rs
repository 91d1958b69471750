//! What a run costs: its time, and the CPU time of server and client. On a machine with other work the second is the
//! steadier figure, and where the server is the limit the first follows from it.

use std::path::PathBuf;
use std::time::Instant;

/// Unit of CPU times in `/proc`, in milliseconds: `USER_HZ` is 100 on every Linux.
const TICK_MS: f64 = 10.0;

/// CPU time of one item, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    pub(crate) client: f64,
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Items a second, or whatever else is compared.
    pub(crate) value: f64,
    /// Where the system tells it.
    pub(crate) cpu: Option<Cpu>,
}

/// Measures runs against one server.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    server: PathBuf,
}

impl Meter {
    pub(crate) fn new(server_pid: i32) -> Self {
        Self { server: format!("/proc/{server_pid}/stat").into() }
    }

    /// Items a second of `work`, which handles `count`.
    pub(crate) async fn rate(
        &self,
        count: usize,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Sample> {
        let (before, clock) = (self.spent(), Instant::now());
        work.await?;
        let (took, after) = (clock.elapsed(), self.spent());
        let count = count as f64;
        let cpu = before.zip(after).map(|(before, after)| Cpu {
            server: (after.server - before.server) / count,
            client: (after.client - before.client) / count,
        });
        Ok(Sample { value: count / took.as_secs_f64(), cpu })
    }

    /// CPU time since the processes started.
    fn spent(&self) -> Option<Cpu> {
        Some(Cpu { server: spent(&self.server)?, client: spent(&PathBuf::from("/proc/self/stat"))? })
    }
}

/// User and system time in a `stat` file of `/proc`.
fn spent(stat: &PathBuf) -> Option<f64> {
    let text = std::fs::read_to_string(stat).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) * TICK_MS)
}
