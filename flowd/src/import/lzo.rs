//! LZO1X, which nfdump 1.6 compresses with unless told otherwise.
//!
//! A stream is a sequence of instructions: each copies octets from the output so far, and then up
//! to three or, by an instruction of its own, any number of octets of the input. What the first
//! four bits of an instruction mean depends on how many octets the one before copied from the input.

use super::reader::Octets;

/// What the instructions for far copies add to their distance.
const NEAR: usize = 0x800;
const FAR: usize = 0x4000;

/// What the instruction before copied from the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// So many octets, none to three, at the end of a copy.
    Few(usize),
    /// A run of its own.
    Run,
}

/// The octets that a stream of LZO1X stands for; none if it is damaged or has more than `max`.
pub(super) fn decompress(stream: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut input = Octets::new(stream);
    let mut output =
        Output { octets: Vec::with_capacity(max.min(stream.len().checked_mul(4)?)), max };
    let mut before = Before::Few(0);
    // A first octet above 17 begins with a run of as many octets as it is above.
    if let Some(size) = stream.first().and_then(|first| first.checked_sub(17)).filter(|&it| it > 0)
    {
        input.u8()?;
        output.push(input.take(usize::from(size))?)?;
        before = if size < 4 { Before::Few(usize::from(size)) } else { Before::Run };
    }
    loop {
        let code = usize::from(input.u8()?);
        let (distance, size, few) = match (code, before) {
            (0..16, Before::Few(0)) => {
                let size = length(code, 15, &mut input)?.checked_add(3)?;
                output.push(input.take(size)?)?;
                before = Before::Run;
                continue;
            }
            (0..16, _) => {
                let high = usize::from(input.u8()?) << 2;
                let base = high.checked_add(code >> 2)?.checked_add(1)?;
                match before {
                    Before::Run => (base.checked_add(NEAR)?, 3, code & 3),
                    Before::Few(_) => (base, 2, code & 3),
                }
            }
            (16..32, _) => {
                let size = length(code & 7, 7, &mut input)?.checked_add(2)?;
                let low = usize::from(input.u16()?);
                let distance = ((code & 8) << 11).checked_add(low >> 2)?;
                if distance == 0 {
                    // The mark of the end, which has this one length.
                    return (size == 3 && input.is_empty()).then_some(output.octets);
                }
                (distance.checked_add(FAR)?, size, low & 3)
            }
            (32..64, _) => {
                let size = length(code & 31, 31, &mut input)?.checked_add(2)?;
                let low = usize::from(input.u16()?);
                ((low >> 2).checked_add(1)?, size, low & 3)
            }
            _ => {
                let high = usize::from(input.u8()?) << 3;
                let distance = high.checked_add(code >> 2 & 7)?.checked_add(1)?;
                (distance, (code >> 5).checked_add(1)?, code & 3)
            }
        };
        output.copy(distance, size)?;
        output.push(input.take(few)?)?;
        before = Before::Few(few);
    }
}

/// A length: the instruction's own bits or, where they are zero, what is beyond `base` in octets
/// that add 255 for each zero among them.
fn length(bits: usize, base: usize, input: &mut Octets<'_>) -> Option<usize> {
    if bits != 0 {
        return Some(bits);
    }
    let mut size = base;
    loop {
        match input.u8()? {
            0 => size = size.checked_add(255)?,
            last => return size.checked_add(usize::from(last)),
        }
    }
}

struct Output {
    octets: Vec<u8>,
    max: usize,
}

impl Output {
    fn has_room(&self, size: usize) -> bool {
        self.octets.len().checked_add(size).is_some_and(|len| len <= self.max)
    }

    fn push(&mut self, octets: &[u8]) -> Option<()> {
        self.has_room(octets.len()).then(|| self.octets.extend_from_slice(octets))
    }

    /// Copies octets of the output; where it reaches over its end, those that it copied itself.
    fn copy(&mut self, distance: usize, size: usize) -> Option<()> {
        let start = self.octets.len().checked_sub(distance)?;
        if !self.has_room(size) {
            return None;
        }
        if distance >= size {
            self.octets.extend_from_within(start..start.checked_add(size)?);
            return Some(());
        }
        for at in (start..).take(size) {
            let octet = *self.octets.get(at)?;
            self.octets.push(octet);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four octets, a copy of five of them that reaches over its own start, three more, the end.
    const STREAM: &[u8] = &[17 + 4, b'a', b'b', b'c', b'd', 0x8f, 0, b'x', b'y', b'z', 17, 0, 0];

    #[test]
    fn reads_literals_and_copies() {
        assert_eq!(decompress(STREAM, 100).unwrap(), b"abcdabcdaxyz");
    }

    #[test]
    fn long_runs_and_copies_count_zeros() {
        // A run of 3 + 15 + 255 + 7 octets, a copy of 2 + 31 + 255 + 1 octets from 280 back.
        let mut stream = vec![0, 0, 7];
        stream.extend((0..280_u16).map(|it| it.to_le_bytes()[0]));
        stream.extend([0x20, 0, 1]);
        stream.extend((279_u16 << 2).to_le_bytes());
        stream.extend([17, 0, 0]);
        let octets = decompress(&stream, 1_000).unwrap();
        assert_eq!(octets.len(), 280 + 289);
        assert!(octets.iter().enumerate().all(|(at, &octet)| octet == (at % 280 % 256) as u8));
    }

    #[test]
    fn refuses_what_is_cut_short_or_too_much() {
        for size in 0..STREAM.len() {
            assert_eq!(decompress(&STREAM[..size], 100), None, "{size}");
        }
        assert_eq!(decompress(&[STREAM, &[0]].concat(), 100), None);
        assert_eq!(decompress(STREAM, 11), None);
        assert!(decompress(STREAM, 12).is_some());
    }
}
