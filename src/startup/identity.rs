//! By what this worker proves who it is, and whether it can.

use super::finding::{Check, Finding};
use crate::spiffe::{Standing, WorkloadIdentity};

/// Looks at the identity of the Workload API; `None`: there is none. `called`: how the Service Registry is.
pub(super) fn judge(called: &str, identity: Option<&WorkloadIdentity>) -> Finding {
    let Some(identity) = identity else {
        return Finding::ok(Check::Identity, format!("SPIFFE is off; the Service Registry: {called}"));
    };
    let settings = identity.settings();
    of(called, settings.trust_domain.as_str(), &identity.standing())
}

fn of(called: &str, trust_domain: &str, standing: &Standing) -> Finding {
    if let Some(missing) = &standing.missing {
        // Its sentences say what and what to do.
        let (what, fix) = missing.rsplit_once("; ").unwrap_or((missing, "check the SPIFFE agent"));
        return Finding::failed(Check::Identity, what, fix);
    }
    let (what, foreign) = match &standing.spiffe_id {
        Some(id) => {
            let left = standing.expires_in.unwrap_or_default();
            (format!("this worker is {id} for another {left} s"), id.trust_domain_name() != trust_domain)
        }
        None => ("this worker proves who it is by JWT-SVIDs".to_owned(), false),
    };
    if foreign {
        let what = format!("{what}, which is not of the trust domain {trust_domain}");
        return Finding::failed(Check::Identity, what, "set SPIFFE_TRUST_DOMAIN to the agent's");
    }
    if standing.away {
        let what = format!("{what}; the SPIFFE Workload API does not answer now");
        return Finding::unknown(Check::Identity, what, "check that the SPIFFE agent runs, and SPIFFE_SOCKET_PATH");
    }
    Finding::ok(Check::Identity, format!("{what}; the Service Registry: {called}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn standing(id: Option<&str>) -> Standing {
        Standing {
            spiffe_id: id.map(|id| id.parse().expect("an id")),
            expires_in: id.map(|_| 60),
            missing: None,
            away: false,
        }
    }

    #[test]
    fn the_check_says_who_the_worker_is_and_what_is_wrong_with_that() {
        let (ours, foreign) = (standing(Some("spiffe://td/worker")), standing(Some("spiffe://other/worker")));
        let missing = Standing { missing: Some("no SVID; check x".to_owned()), ..standing(None) };
        let away = Standing { away: true, ..ours.clone() };
        for (standing, state, what, fix) in [
            (ours, State::Ok, "this worker is spiffe://td/worker for another 60 s; the Service Registry: called", ""),
            (standing(None), State::Ok, "by JWT-SVIDs", ""),
            (foreign, State::Failed, "which is not of the trust domain td", "SPIFFE_TRUST_DOMAIN"),
            (missing, State::Failed, "no SVID", "check x"),
            (away, State::Unknown, "does not answer now", "SPIFFE_SOCKET_PATH"),
        ] {
            let found = of("called", "td", &standing);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.what.contains(what) && found.fix.contains(fix), "{found:?}");
        }
    }
}
