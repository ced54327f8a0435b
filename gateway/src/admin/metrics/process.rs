//! Facts about this process, from `/proc`; what cannot be read is left out.

use std::fs;

/// Clock ticks a second in `/proc` (`USER_HZ`), the same on every Linux this is built for.
const TICKS: f64 = 100.0;

/// One reading.
pub(super) struct Facts {
    stat: String,
    status: String,
    limits: String,
    system: String,
    open_fds: Option<usize>,
}

impl Facts {
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            stat: text("/proc/self/stat"),
            status: text("/proc/self/status"),
            limits: text("/proc/self/limits"),
            system: text("/proc/stat"),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        }
    }

    /// Value of a `process_*` metric.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        match name {
            "process_cpu_seconds_total" => Some((self.stat(14)? + self.stat(15)?) / TICKS),
            "process_start_time_seconds" => {
                let boot = self.system.lines().find_map(|line| line.strip_prefix("btime "))?;
                Some(boot.trim().parse::<f64>().ok()? + self.stat(22)? / TICKS)
            }
            "process_resident_memory_bytes" => Some(self.status("VmRSS:")? * 1024.0),
            "process_threads" => self.status("Threads:"),
            "process_open_fds" => self.open_fds.map(|count| count as f64),
            "process_max_fds" => {
                let line =
                    self.limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
                line.split_whitespace().next()?.parse().ok()
            }
            _ => None,
        }
    }

    /// A field of `/proc/self/stat` by its number in proc(5), from 3 on. The second field, the name of
    /// the program, may hold anything, so counting starts behind its closing bracket.
    fn stat(&self, field: usize) -> Option<f64> {
        let (_, rest) = self.stat.rsplit_once(')')?;
        rest.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
    }

    fn status(&self, key: &str) -> Option<f64> {
        let line = self.status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }
}
