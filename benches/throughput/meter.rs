//! What a run costs: its time, and the CPU time of server and client. On a machine with other work the second is the
//! steadier figure, and where the server is the limit the first follows from it.

use std::fs::read_to_string;
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
    server: Vec<i32>,
}

impl Meter {
    /// The server's processes; their children count too.
    pub(crate) fn new(server: Vec<i32>) -> Self {
        Self { server }
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
        let server = self.server.iter().map(|pid| spent_by_family(*pid)).sum::<Option<f64>>()?;
        Some(Cpu { server, client: times("/proc/self/stat")?.own })
    }
}

/// CPU times of a process.
struct Times {
    own: f64,
    /// Of children that have ended and been waited for.
    ended_children: f64,
}

/// A process, its children that have ended, and those that live: a database has one for each connection.
fn spent_by_family(pid: i32) -> Option<f64> {
    let family = times(&format!("/proc/{pid}/stat"))?;
    let children = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // One that has just ended is in its parent's time.
    let live = children.split_whitespace().filter_map(|child| times(&format!("/proc/{child}/stat")));
    Some(family.own + family.ended_children + live.map(|child| child.own + child.ended_children).sum::<f64>())
}

/// User and system times in a `stat` file of `/proc`.
fn times(stat: &str) -> Option<Times> {
    let text = read_to_string(stat).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Times { own: (ticks(11)? + ticks(12)?) * TICK_MS, ended_children: (ticks(13)? + ticks(14)?) * TICK_MS })
}
