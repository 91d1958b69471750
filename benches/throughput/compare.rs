//! A/B/A: every round measures the bare loop, the product, and the bare loop again, so that a machine that gets busier
//! during a round weighs on both.

use anyhow::Context as _;

/// Rounds; an odd number, for the median.
const ROUNDS: usize = 3;

/// One round.
struct Round {
    bare: [f64; 2],
    ours: f64,
}

impl Round {
    fn bare(&self) -> f64 {
        (self.bare[0] + self.bare[1]) / 2.0
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
}

/// A count needs no rounds.
impl From<(usize, usize)> for Comparison {
    fn from((ours, bare): (usize, usize)) -> Self {
        let (ours, bare) = (ours as f64, bare as f64);
        Self { ours, bare, ours_over_bare: ours / bare, noise: 0.0 }
    }
}

/// Runs the rounds. The closures get a number that is never used twice.
pub(crate) async fn rounds(
    what: &str,
    mut bare: impl AsyncFnMut(usize) -> anyhow::Result<f64>,
    mut ours: impl AsyncFnMut(usize) -> anyhow::Result<f64>,
) -> anyhow::Result<Comparison> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for number in 0..ROUNDS {
        let context = || format!("{what}, round {}", number + 1);
        let first = bare(2 * number).await.with_context(context)?;
        let between = ours(number).await.with_context(context)?;
        let second = bare(2 * number + 1).await.with_context(context)?;
        eprintln!("{what}: bare {first:.1}, ours {between:.1}, bare {second:.1}");
        rounds.push(Round { bare: [first, second], ours: between });
    }
    Ok(compare(&rounds))
}

fn compare(rounds: &[Round]) -> Comparison {
    let each = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    Comparison {
        ours: each(|round| round.ours),
        bare: each(Round::bare),
        ours_over_bare: each(|round| round.ours / round.bare()),
        noise: rounds.iter().map(|round| (round.bare[0] - round.bare[1]).abs() / round.bare()).fold(0.0, f64::max),
    }
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
