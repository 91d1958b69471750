//! The sandbox of local commands.

use std::path::{Path, PathBuf};

use ticket_activities::sandbox::{Limits, Network, SandboxConfig};

use super::reader::Reader;

/// Most mebibytes of a limit: a pebibyte.
const MOST_MB: u64 = 1 << 30;

/// Reads what confines commands that work below `working_dir`.
pub(super) fn read(reader: &mut Reader<'_>, working_dir: &Path) -> SandboxConfig {
    let network = reader.one_of(
        "LOCAL_RUNTIME_NETWORK",
        &[("none", Network::None), ("host", Network::Host)],
        "none",
        "network of commands: none, or the host's; added by this product",
    );
    let readable: Vec<PathBuf> = reader
        .list(
            "LOCAL_RUNTIME_READABLE_PATHS",
            "",
            "files and folders that commands may read and execute beside those of the system; added by this product",
        )
        .into_iter()
        .map(PathBuf::from)
        .collect();
    for path in &readable {
        let shown = path.display();
        if !path.is_absolute() {
            reader.error(format!("LOCAL_RUNTIME_READABLE_PATHS: {shown} is not an absolute path"));
        } else if overlap(path, working_dir) {
            reader.error(format!(
                "LOCAL_RUNTIME_READABLE_PATHS: {shown} would show each command the folders of all others; name what it needs"
            ));
        }
    }
    let limits = Limits {
        memory: megabytes(
            reader,
            "LOCAL_RUNTIME_MEMORY_LIMIT_MB",
            2048,
            16,
            "MiB of memory that a command and all it starts may take; added by this product",
        ),
        processes: reader.number_within(
            "LOCAL_RUNTIME_MAX_PROCESSES",
            256,
            4..=4_194_304,
            "processes and threads of a command at a time; added by this product",
        ),
        file: megabytes(
            reader,
            "LOCAL_RUNTIME_MAX_FILE_SIZE_MB",
            1024,
            1,
            "MiB of one file that a command writes; added by this product",
        ),
        folder: megabytes(
            reader,
            "LOCAL_RUNTIME_MAX_FOLDER_SIZE_MB",
            4096,
            1,
            "MiB of a command's folder, looked at every second or less often; added by this product",
        ),
        open_files: reader.number_within(
            "LOCAL_RUNTIME_MAX_OPEN_FILES",
            1024,
            16..=1_048_576,
            "files that one process of a command may have open; added by this product",
        ),
    };
    let cgroups = reader.boolean(
        "LOCAL_RUNTIME_CGROUPS",
        true,
        "whether each command gets a cgroup, where the worker may make one; added by this product",
    );
    SandboxConfig { network: network.unwrap_or(Network::None), readable, limits, cgroups }
}

/// Refuses a search path that would show each command the folders of all others: the sandbox lets commands read it.
pub(super) fn check_search_path(reader: &mut Reader<'_>, search_path: &str, working_dir: &Path) {
    let absolute = std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    for folder in absolute.filter(|folder| overlap(folder, working_dir)) {
        reader.error(format!(
            "LOCAL_RUNTIME_PATH: commands may read its folder {}, which would show each of them the folders of all others \
             (LOCAL_RUNTIME_WORKING_DIR); take it out",
            folder.display()
        ));
    }
}

/// Whether one lies in the other, as they are written.
pub(super) fn overlap_as_written(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Whether one lies in the other, as they are written or as links in them lead. Asks the file system.
pub(crate) fn overlap(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        // The rest, which is not there yet, has no links.
        path.ancestors()
            .find_map(|there| Some(there.canonicalize().ok()?.join(path.strip_prefix(there).ok()?)))
            .unwrap_or_else(|| path.to_owned())
    };
    overlap_as_written(one, other) || overlap_as_written(&real(one), &real(other))
}

/// A number of mebibytes, in bytes.
fn megabytes(reader: &mut Reader<'_>, name: &'static str, default: u64, least: u64, help: &'static str) -> u64 {
    reader.number_within(name, default, least..=MOST_MB, help) << 20
}
