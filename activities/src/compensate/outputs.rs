//! The outputs that a ticket wants removed: what `cleanup_outputs` names in its working folder, and nothing else.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use ticket_workflows::{Failed, code};

use super::not_defined;
use crate::execute::local::{Allowance, Workplace, shown};
use crate::executor::Job;

/// Most outputs that one ticket may name.
const MAX_NAMES: usize = 1000;
/// Longest name, and longest part of one, in bytes: Linux takes no longer ones.
const MAX_NAME: usize = 4096;
const MAX_PART: usize = 255;

/// What is to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outputs {
    /// Paths below the working folder, without `..` and links to elsewhere.
    names: Vec<PathBuf>,
    /// Whether they are wanted gone and none is named, as in the tickets of the platform.
    pub(super) unnamed: bool,
}

/// What became of the named ones: none is there any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    removed: usize,
    absent: usize,
}

impl Outputs {
    /// `cleanup_outputs`: a list of names; `true` names none, for nobody can tell outputs from what else is in a folder;
    /// absent or `false` wants none gone.
    pub(super) fn of(asked: Option<&Value>) -> Result<Self, Failed> {
        match asked.and_then(ticket_schemas::canonical) {
            None | Some(Value::Bool(false)) => Ok(Self::default()),
            Some(Value::Bool(true)) => Ok(Self { names: Vec::new(), unnamed: true }),
            Some(Value::Array(names)) if names.len() > MAX_NAMES => {
                Err(invalid(format!("{} names, and at most {MAX_NAMES} are taken; name a folder", names.len())))
            }
            Some(Value::Array(names)) => {
                Ok(Self { names: names.iter().map(name).collect::<Result<_, _>>()?, unnamed: false })
            }
            Some(_) => Err(invalid("it must be true, false or a list of names".to_owned())),
        }
    }

    /// Whether any is named.
    pub(super) fn are_named(&self) -> bool {
        !self.names.is_empty()
    }

    /// Removes them from `folder`, for as long as is allowed.
    pub(super) async fn remove(
        &self,
        place: &impl Workplace,
        folder: &str,
        allowance: &Allowance,
    ) -> Result<Removed, Failed> {
        let mut found = Removed::default();
        for name in &self.names {
            allowance.check()?;
            if place.remove_left(folder, name, allowance).await? {
                found.removed += 1;
            } else {
                found.absent += 1;
            }
        }
        Ok(found)
    }
}

impl Removed {
    /// Where none was there nothing was undone: they may be in a folder of another worker. A worker that was lost during this
    /// attempt may have removed them, though; an attempt before this one has said that it did not remove all of them.
    pub(super) fn unless_all_were_absent(self, job: &Job) -> Result<Self, Failed> {
        if self.removed == 0 && job.lost_workers == 0 {
            return Err(not_defined("none of the outputs that the ticket names was in its folder on this worker"));
        }
        Ok(self)
    }

    /// What was done, and what came of it.
    pub(super) fn told(&self) -> (String, String) {
        let Self { removed, absent } = self;
        (format!("removal of {} outputs", removed + absent), format!("{removed} removed, {absent} not there"))
    }
}

fn name(given: &Value) -> Result<PathBuf, Failed> {
    let text = match given {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(invalid("a name must be a text".to_owned())),
    };
    let refused = || invalid(format!("{} is no path inside the working folder", shown(&text)));
    if text.len() > MAX_NAME || text.contains('\0') {
        return Err(refused());
    }
    let parts = Path::new(&text).components().filter(|part| *part != Component::CurDir);
    let path = parts
        .map(|part| match part {
            Component::Normal(part) if part.len() <= MAX_PART => Ok(part),
            _ => Err(refused()),
        })
        .collect::<Result<PathBuf, _>>()?;
    if path.as_os_str().is_empty() { Err(refused()) } else { Ok(path) }
}

fn invalid(why: String) -> Failed {
    Failed::permanent(code::INVALID_PARAMETERS, format!("parameter \"cleanup_outputs\": {why}; correct the ticket"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(asked: Value) -> Result<Vec<String>, String> {
        let outputs = Outputs::of(Some(&asked)).map_err(|failed| failed.code)?;
        Ok(outputs.names.iter().map(|name| name.display().to_string()).collect())
    }

    #[test]
    fn outputs_are_named_in_a_list_however_it_came() {
        assert_eq!(names(json!(["dist", "./a//b/./c", 7])), Ok(vec!["dist".into(), "a/b/c".into(), "7".into()]));
        assert_eq!(names(json!(r#"["dist", "x y"]"#)), Ok(vec!["dist".into(), "x y".into()]), "as Avro has it");
        assert_eq!(names(json!("['dist']")), Ok(vec!["dist".into()]), "as the planner writes it");
        for unnamed in [json!(true), json!("true"), json!("True")] {
            assert_eq!(Outputs::of(Some(&unnamed)), Ok(Outputs { names: Vec::new(), unnamed: true }), "{unnamed}");
        }
        for none in [None, Some(json!(null)), Some(json!(false)), Some(json!("false")), Some(json!([]))] {
            assert_eq!(Outputs::of(none.as_ref()), Ok(Outputs::default()), "{none:?}");
        }
    }

    #[test]
    fn what_is_not_inside_the_folder_is_refused() {
        let refused = Err(code::INVALID_PARAMETERS.to_owned());
        for bad in ["", ".", "./", "/", "/etc/passwd", "..", "a/../../b", "a/..", "a\0b"] {
            assert_eq!(names(json!(["fine", bad])), refused, "{bad:?}");
        }
        let (part, parts) = ("n".repeat(MAX_PART + 1), "a/".repeat(500_000));
        let begun = std::time::Instant::now();
        for bad in [&part, &parts, &format!("{parts}\0")] {
            assert_eq!(names(json!([bad])), refused, "{} bytes", bad.len());
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(names(json!(["n".repeat(MAX_PART)])).is_ok());
        for bad in [json!("dist"), json!("no"), json!(3), json!({ "a": 1 }), json!([["a"]]), json!([null])] {
            assert_eq!(names(bad.clone()), refused, "{bad}");
        }
        assert_eq!(names(json!(vec!["a"; MAX_NAMES + 1])), refused);
        assert_eq!(names(json!(vec!["a"; MAX_NAMES])).map(|names| names.len()), Ok(MAX_NAMES));
    }
}
