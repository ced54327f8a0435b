//! What a node tells the others of its group about shared limits, as bytes within a note of the group.
//!
//! A note is at most [`gatehouse_vip::LONGEST_NOTE`] bytes; numbers are big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1; notes of another version are ignored |
//! | 19 each | reports, up to the end |
//!
//! A report: key of limit and client (8), flags (1: 128 young, 64 wanted, the rest is the watch's number), used here (5),
//! level (5). Used and level are in units of 4 µs of the limit's own time: a request of 10 a second is 25 000.

/// Bytes of a report.
const REPORT: usize = 19;
const VERSION: u8 = 1;
const YOUNG: u8 = 128;
const WANTED: u8 = 64;
/// Numbers of watches.
pub(super) const WATCH: u8 = 63;

/// What one node says about one client and limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) key: u64,
    /// Tells one time that the node watches the client from the next: what was used is counted from its beginning.
    pub(super) watch: u8,
    /// The watch has begun lately: what was used is all that the client has used there.
    pub(super) young: bool,
    /// The client would have used more.
    pub(super) wanted: bool,
    /// What the client has used on that node since the watch began, in units.
    pub(super) used: u64,
    /// How long the client would take to make up for all that it has used anywhere, as far as the node knows, in units.
    pub(super) level: u64,
}

/// The notes that say all of it, at least one.
pub(super) fn notes(reports: &[Report], longest: usize) -> Vec<Vec<u8>> {
    let of = |reports: &[Report]| {
        let mut bytes = Vec::with_capacity(1 + reports.len() * REPORT);
        bytes.push(VERSION);
        reports.iter().for_each(|report| report.write(&mut bytes));
        bytes
    };
    if reports.is_empty() {
        return vec![of(&[])];
    }
    reports.chunks(in_one(longest)).map(of).collect()
}

/// Reports of one note.
pub(super) fn in_one(longest: usize) -> usize {
    (longest.saturating_sub(1) / REPORT).max(1)
}

/// The reports of a note; `None` if it is of another version or cut short.
pub(super) fn read(note: &[u8]) -> Option<impl Iterator<Item = Report>> {
    let (reports, rest) = note.strip_prefix(&[VERSION])?.as_chunks::<REPORT>();
    rest.is_empty().then(|| reports.iter().map(Report::read))
}

impl Report {
    fn write(&self, bytes: &mut Vec<u8>) {
        let young = if self.young { YOUNG } else { 0 };
        let wanted = if self.wanted { WANTED } else { 0 };
        bytes.extend(self.key.to_be_bytes());
        bytes.push(young | wanted | self.watch & WATCH);
        bytes.extend(&self.used.to_be_bytes()[3..]);
        bytes.extend(&self.level.to_be_bytes()[3..]);
    }

    fn read(bytes: &[u8; REPORT]) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let flags = bytes[8];
        Self {
            key: number(&bytes[..8]),
            watch: flags & WATCH,
            young: flags & YOUNG != 0,
            wanted: flags & WANTED != 0,
            used: number(&bytes[9..14]),
            level: number(&bytes[14..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_back_from_as_many_notes_as_they_take() {
        let report = |key| Report {
            key,
            watch: (key % 64) as u8,
            young: key % 2 == 0,
            wanted: key % 3 == 0,
            used: (1 << 40) - 1 - key,
            level: key << 30,
        };
        let reports: Vec<_> = (0..200).map(report).collect();
        let notes = notes(&reports, 1300);
        assert_eq!(notes.len(), 3);
        assert!(notes.iter().all(|note| note.len() <= 1300));
        let back: Vec<_> = notes.iter().flat_map(|note| read(note).unwrap()).collect();
        assert_eq!(back, reports);
    }

    #[test]
    fn a_note_of_another_version_or_length_is_none() {
        let note = notes(&[], 1300).remove(0);
        assert_eq!(read(&note).unwrap().count(), 0);
        assert!(read(&[]).is_none());
        assert!(read(&[2]).is_none());
        for length in 2..1 + REPORT {
            assert!(read(&vec![VERSION; length]).is_none(), "{length}");
        }
    }
}
