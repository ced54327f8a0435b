//! Flags about the memory of the process.

use super::bodies::size;

/// How much there may be, and who may see it.
#[derive(Clone, Debug, clap::Args)]
pub struct MemorySettings {
    /// Bytes of memory that the process is to stay below, such as `512m`; 0: any number. From 85 percent on, connections of
    /// clients end with the answer under way, and bodies that wait go to files; from 95 percent on, none is accepted, and requests get 503. Default: the
    /// limit of its control group (`resources.limits.memory` of a container, `MemoryMax` of systemd), if it has one.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Process")]
    pub memory_limit: Option<u64>,

    /// Allows core dumps. They hold private keys; programs of the same user may read the memory then, too.
    #[arg(long, help_heading = "Process")]
    pub core_dumps: bool,
}
