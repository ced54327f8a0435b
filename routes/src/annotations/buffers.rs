//! What annotations say of answers that wait here for their clients, part by part (`proxy-buffering`,
//! `response-buffering` and their sizes).

use crate::policy::buffering::AnswerBuffering;

/// Size and number of buffers, and bytes in a file, where nothing is said of them, as ingress-nginx has them.
const SIZE: u64 = 4 * 1024;
const COUNT: u32 = 4;
const FILE: u64 = 1024 * 1024 * 1024;

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerBuffer {
    On(bool),
    /// Bytes of one buffer.
    Size(u64),
    Count(u32),
    /// Bytes of all buffers, in place of their size and number.
    Memory(u64),
    /// Bytes in a file at most.
    File(u64),
}

/// All parts of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerBuffers {
    on: Option<bool>,
    size: Option<u64>,
    count: Option<u32>,
    memory: Option<u64>,
    file: Option<u64>,
}

impl AnswerBuffers {
    pub(super) fn set(&mut self, part: AnswerBuffer) {
        match part {
            AnswerBuffer::On(on) => self.on = Some(on),
            AnswerBuffer::Size(bytes) => self.size = Some(bytes),
            AnswerBuffer::Count(count) => self.count = Some(count),
            AnswerBuffer::Memory(bytes) => self.memory = Some(bytes),
            AnswerBuffer::File(bytes) => self.file = Some(bytes),
        }
    }

    fn memory(&self) -> u64 {
        let (size, count) = (self.size.unwrap_or(SIZE), self.count.unwrap_or(COUNT));
        self.memory.unwrap_or_else(|| size.saturating_mul(u64::from(count)))
    }

    /// Bytes in memory, where they are other than where nobody says anything.
    pub(super) fn memory_said(&self) -> Option<u64> {
        Some(self.memory()).filter(|bytes| *bytes != SIZE * u64::from(COUNT))
    }

    /// How answers wait, if anything is said of whether they do.
    pub(super) fn buffering(&self) -> Option<AnswerBuffering> {
        Some(AnswerBuffering {
            on: self.on?,
            memory: self.memory(),
            file: self.file.unwrap_or(FILE),
        })
    }
}
