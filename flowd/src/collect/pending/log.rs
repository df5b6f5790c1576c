//! The file of sets that wait: entries are appended, and the file is written anew when it has
//! grown too long, or cut to nothing when nothing waits.

use super::entry::{Entry, read_entry, write_gone, write_held};
use super::lock;
use super::queue::{Queue, Waiting};
use crate::collect::peer::Transport;
use crate::collect::saved::{self, Mark, replace_file};
use crate::wire::{Reader, Writer};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const FILE_NAME: &str = "pending.log";
const MARK: Mark = *b"flowdPD1";
const MARK_SIZE: u64 = 8;
/// Octets that are gathered under the queue's lock and written at once.
const PART_SIZE: usize = 1 << 20;
/// Octets that one save writes, about: at five saves a second 20 MiB/s.
const SAVE_SIZE_MAX: usize = 4 << 20;

/// The file. Whoever holds its lock may lock the queue, never the other way round.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Octets that are whole entries.
    size: u64,
    /// Longer than this, the file is written anew.
    size_max: u64,
    /// It lacks something, or has too much: it is written anew at the next save.
    is_unsound: bool,
}

impl Log {
    /// Opens the file of a directory, and puts what it holds into the queue.
    pub(super) fn open(dir: &Path, size_max: usize, queue: &Mutex<Queue>) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        if let Some(octets) = saved::read_octets(&path) {
            load(&octets, &mut lock(queue)).unwrap_or_else(|why| saved::put_aside(&path, why));
        }
        lock(queue).save_from_next();
        let (file, size) = write_whole(&path, queue)?;
        let size_max = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_mul(2);
        Ok(Self { path, file, size, size_max, is_unsound: false })
    }

    /// Writes what is new, some MiB at most.
    pub(super) fn save(&mut self, queue: &Mutex<Queue>) -> io::Result<()> {
        self.save_some(queue, SAVE_SIZE_MAX)
    }

    /// Writes all that is new.
    pub(super) fn finish(&mut self, queue: &Mutex<Queue>) -> io::Result<()> {
        self.save_some(queue, usize::MAX)
    }

    fn save_some(&mut self, queue: &Mutex<Queue>, size_max: usize) -> io::Result<()> {
        if self.is_unsound || self.size > self.size_max {
            (self.file, self.size) = write_whole(&self.path, queue)?;
            self.is_unsound = false;
        }
        let mut written = 0_usize;
        let mut writer = Writer::with_capacity(PART_SIZE);
        while written < size_max {
            writer.clear();
            let undo = {
                let mut queue = lock(queue);
                if queue.len() == 0 {
                    queue.given_up.clear();
                    queue.save_from_next();
                    drop(queue);
                    return self.cut();
                }
                gather_new(&mut queue, &mut writer)
            };
            if writer.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.append(writer.as_bytes()) {
                lock(queue).undo(undo);
                return Err(error);
            }
            written = written.saturating_add(writer.len());
        }
        Ok(())
    }

    /// Says that sets wait no more. If that cannot be written, it is made up for by the next
    /// save, which writes the file anew.
    pub(super) fn note_gone(&mut self, numbers: &[u64]) {
        let mut writer = Writer::default();
        write_gone(&mut writer, numbers);
        if self.append(writer.as_bytes()).is_err() {
            self.is_unsound = true;
        }
    }

    /// An entry that was written in part is cut off again, or nothing after it could be read.
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        let outcome = self.file.write_all(octets);
        match outcome {
            Ok(()) => {
                self.size = self.size.saturating_add(u64::try_from(octets.len()).unwrap_or(0));
            }
            Err(_) => self.is_unsound |= set_end(&mut self.file, self.size).is_err(),
        }
        outcome
    }

    fn cut(&mut self) -> io::Result<()> {
        if self.size > MARK_SIZE {
            set_end(&mut self.file, MARK_SIZE)?;
            self.size = MARK_SIZE;
        }
        Ok(())
    }
}

fn set_end(file: &mut File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    file.seek(SeekFrom::Start(size)).map(|_| ())
}

/// Gathers what was given up and a part of what is not on disk yet. What it has taken comes back,
/// in case that it cannot be written.
fn gather_new(queue: &mut Queue, writer: &mut Writer) -> (u64, Vec<u64>) {
    let undo = (queue.saved_until, std::mem::take(&mut queue.given_up));
    write_gone(writer, &undo.1);
    let mut until = queue.saved_until;
    for (number, waiting) in queue.since(queue.saved_until) {
        if writer.len() >= PART_SIZE {
            break;
        }
        write_held(writer, number, waiting);
        until = number.saturating_add(1);
    }
    queue.saved_until = until;
    undo
}

/// Writes a file of the sets whose place is on disk, and puts it in the place of the one there.
/// A set that is taken meanwhile is noted as gone in the new file, since whoever takes it waits
/// for the log's lock before it is decoded.
fn write_whole(path: &Path, queue: &Mutex<Queue>) -> io::Result<(File, u64)> {
    let (until, given_up) = {
        let mut queue = lock(queue);
        (queue.saved_until, std::mem::take(&mut queue.given_up))
    };
    let written = replace_file(path, |file| {
        file.write_all(&MARK)?;
        let mut size = MARK_SIZE;
        let mut writer = Writer::with_capacity(PART_SIZE);
        let mut next = 0;
        loop {
            writer.clear();
            for (number, waiting) in lock(queue).since(next).take_while(|&(n, _)| n < until) {
                if writer.len() >= PART_SIZE {
                    break;
                }
                write_held(&mut writer, number, waiting);
                next = number.saturating_add(1);
            }
            if writer.is_empty() {
                break;
            }
            file.write_all(writer.as_bytes())?;
            size = size.saturating_add(u64::try_from(writer.len()).unwrap_or(0));
        }
        Ok((file.try_clone()?, size))
    });
    written.inspect_err(|_| lock(queue).undo((until, given_up)))
}

/// Puts the sets that a file holds into the queue. Those before any damage are held.
fn load(octets: &[u8], queue: &mut Queue) -> Result<(), &'static str> {
    let mut reader = Reader::new(octets);
    if reader.take_array() != Ok(MARK) {
        return Err("it is of another version, or no such file at all");
    }
    let (mut held, mut gone) = (Vec::new(), HashSet::new());
    let mut is_sound = true;
    while is_sound && !reader.is_empty() {
        match read_entry(&mut reader) {
            Some(Entry::Held(number, waiting)) => held.push((number, waiting)),
            Some(Entry::Gone(numbers)) => gone.extend(numbers),
            None => is_sound = false,
        }
    }
    // The templates of a connection ended with it, and it ended with the process at the latest.
    held.retain(|(number, waiting)| {
        !gone.contains(number) && waiting.held.source.transport == Transport::Udp
    });
    held.sort_by_key(|&(number, _)| number);
    for (_, waiting) in held {
        let Waiting { key, held } = *waiting;
        queue.hold(key, held, &mut |_, _| {});
    }
    if is_sound { Ok(()) } else { Err("it is damaged; the sets before the damage are held") }
}
