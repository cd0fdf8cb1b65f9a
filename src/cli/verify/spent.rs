//! A directory that remembers which approvals were used on this machine: a proof is good for one deployment, and whoever
//! deploys without asking the appliance keeps the list.

use crate::cli::pinned::shown;
use crate::evidence::verify::Check;
use std::io::ErrorKind;
use std::path::Path;

/// Marks each request as used, unless one was before: then none is.
///
/// # Errors
/// The directory can't be written.
pub fn spend(directory: &Path, requests: &[String]) -> Result<Check, String> {
    let check = |ok: bool, detail: String| {
        Ok(Check {
            name: "unused",
            ok,
            detail,
        })
    };
    if requests.is_empty() {
        return check(false, "there is no outcome or receipt that could be used".into());
    }
    if let Some(used) = requests.iter().find(|it| directory.join(it).exists()) {
        return check(false, format!("the approval {used} was used here before"));
    }
    for request in requests {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(directory.join(request));
        match made.and_then(|file| file.sync_all()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return check(false, format!("the approval {request} was used here before"));
            }
            Err(error) => return Err(format!("{}: {error}", shown(directory))),
        }
    }
    check(
        true,
        format!("used here for the first time: {}", requests.join(", ")),
    )
}
