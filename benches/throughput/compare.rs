//! A/B/A: every round measures the bare loop, the product, and the bare loop again, so that a machine that gets busier
//! during a round weighs on both.

use anyhow::Context as _;

use crate::meter::{Cpu, Sample};

/// Rounds; an odd number, for the median.
const ROUNDS: usize = 3;

/// One round.
struct Round {
    bare: [Sample; 2],
    ours: Sample,
}

impl Round {
    fn bare(&self) -> f64 {
        self.bare.iter().map(|run| run.value).sum::<f64>() / 2.0
    }

    fn noise(&self) -> f64 {
        (self.bare[0].value - self.bare[1].value).abs() / self.bare()
    }
}

/// What the rounds came to.
pub(crate) struct Comparison {
    /// Median of the product's values.
    pub(crate) ours: f64,
    /// Median of the bare loop's.
    pub(crate) bare: f64,
    /// Median of each round's product over bare.
    pub(crate) ours_over_bare: f64,
    /// Largest difference between the two bare runs of a round, as a fraction of their mean: what the machine adds.
    pub(crate) noise: f64,
    /// Median CPU times of the product and of the bare loop.
    pub(crate) cpu: Option<(Cpu, Cpu)>,
}

/// A count needs no rounds.
impl From<(usize, usize)> for Comparison {
    fn from((ours, bare): (usize, usize)) -> Self {
        let (ours, bare) = (ours as f64, bare as f64);
        Self { ours, bare, ours_over_bare: ours / bare, noise: 0.0, cpu: None }
    }
}

/// Runs the rounds. The closures get a number that is never used twice.
pub(crate) async fn rounds(
    what: &str,
    mut bare: impl AsyncFnMut(usize) -> anyhow::Result<Sample>,
    mut ours: impl AsyncFnMut(usize) -> anyhow::Result<Sample>,
) -> anyhow::Result<Comparison> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for number in 0..ROUNDS {
        let context = || format!("{what}, round {}", number + 1);
        let first = bare(2 * number).await.with_context(context)?;
        let between = ours(number).await.with_context(context)?;
        let second = bare(2 * number + 1).await.with_context(context)?;
        eprintln!("{what}: bare {:.1}, ours {:.1}, bare {:.1}", first.value, between.value, second.value);
        rounds.push(Round { bare: [first, second], ours: between });
    }
    Ok(compare(&rounds))
}

fn compare(rounds: &[Round]) -> Comparison {
    let each = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let ours = median_cpu(rounds.iter().filter_map(|round| round.ours.cpu));
    let bare = median_cpu(rounds.iter().flat_map(|round| round.bare).filter_map(|run| run.cpu));
    Comparison {
        ours: each(|round| round.ours.value),
        bare: each(Round::bare),
        ours_over_bare: each(|round| round.ours.value / round.bare()),
        noise: rounds.iter().map(Round::noise).fold(0.0, f64::max),
        cpu: ours.zip(bare),
    }
}

fn median_cpu(runs: impl Iterator<Item = Cpu>) -> Option<Cpu> {
    let (server, client): (Vec<f64>, Vec<f64>) = runs.map(|run| (run.server, run.client)).unzip();
    (!server.is_empty()).then(|| Cpu { server: median(server), client: median(client) })
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
