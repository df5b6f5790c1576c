//! BTF as the compiler makes it of Rust's types -> BTF as the kernel takes it.
//!
//! The kernel refuses all BTF of an object, and with it every map that names a type, for things
//! that are common in Rust (kernel/bpf/btf.c):
//! - An enum with data comes out as a union whose members lie where each variant's data do; a
//!   union's members must lie at its beginning (`btf_struct_check_meta`).
//! - A parameter that is a pattern has no name; parameters of functions must have one
//!   (`btf_func_check`).
//! - Of one instruction, two lines of source may be named; it must be one, and the next one's place
//!   must be greater (`check_btf_line`).
//!
//! Nobody reads such members and names: members are put at the beginning, and parameters are called
//! after a function. Of an instruction's lines the last is kept.

use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;

const MAGIC: u16 = 0xeb9f;
/// Three words begin every type: its name, its kind and count, its size or another type.
const HEAD_SIZE: usize = 12;
const UNION: u32 = 5;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;

/// Changes the `.BTF` and `.BTF.ext` sections of an object in place.
pub(super) fn make_loadable(object: &mut [u8]) -> Result<()> {
    change_types(find(object, b".BTF")?)?;
    change_lines(find(object, b".BTF.ext")?)
}

fn find<'a>(object: &'a mut [u8], name: &[u8]) -> Result<&'a mut [u8]> {
    let place = section(object, name).context("the object lacks a section of BTF")?;
    let section = object.get_mut(place).context("a section of BTF is cut")?;
    ensure!(u16_at(section, 0)? == MAGIC, "a section of BTF does not begin as BTF does");
    Ok(section)
}

fn change_types(btf: &mut [u8]) -> Result<()> {
    let begin = size_at(btf, 4)? + size_at(btf, 8)?;
    let types = btf.get_mut(begin..begin + size_at(btf, 12)?).context("the types are cut")?;
    let mut parsed = Vec::new();
    let mut at = 0;
    while at < types.len() {
        let info = u32_at(types, at + 4)?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let end = at + HEAD_SIZE + trailer_size(kind, count)?;
        ensure!(end <= types.len(), "a type is cut");
        parsed.push((kind, at..end));
        at = end;
    }
    let functions = parsed.iter().filter(|(kind, _)| *kind == FUNCTION);
    let a_name = functions.map(|(_, place)| u32_at(types, place.start)).next().transpose()?;
    for (kind, place) in parsed {
        let trailer = &mut types[place.start + HEAD_SIZE..place.end];
        match kind {
            UNION => put_members_at_the_beginning(trailer),
            PROTOTYPE => name_parameters(trailer, a_name.unwrap_or(0))?,
            _ => {}
        }
    }
    Ok(())
}

/// A member: its name, its type, its offset in bits.
fn put_members_at_the_beginning(members: &mut [u8]) {
    for member in members.chunks_exact_mut(12) {
        member[8..].fill(0);
    }
}

/// A parameter: its name, its type. One without either stands for `...`.
fn name_parameters(parameters: &mut [u8], name: u32) -> Result<()> {
    for parameter in parameters.chunks_exact_mut(8) {
        if u32_at(parameter, 0)? == 0 && u32_at(parameter, 4)? != 0 {
            parameter[..4].copy_from_slice(&name.to_le_bytes());
        }
    }
    Ok(())
}

/// Lines: the size of a record, then for each section of code its name, a count, and so many
/// records, each beginning with the instruction's place.
fn change_lines(btf_ext: &mut [u8]) -> Result<()> {
    const LINES_SIZE_AT: usize = 20;
    let begin = size_at(btf_ext, 4)? + size_at(btf_ext, 16)?;
    let end = begin + size_at(btf_ext, LINES_SIZE_AT)?;
    let lines = btf_ext.get_mut(begin..end).context("the lines are cut")?;
    if lines.is_empty() {
        return Ok(());
    }
    let record_size = size_at(lines, 0)?;
    ensure!(record_size >= 16, "lines of {record_size} octets are not known here");
    let mut kept = lines[..4].to_vec();
    let mut at = 4;
    while at < lines.len() {
        let records_begin = at + 8;
        at = records_begin + size_at(lines, at + 4)? * record_size;
        let records = lines.get(records_begin..at).context("the lines are cut")?;
        let mut last: Vec<&[u8]> = Vec::new();
        for record in records.chunks_exact(record_size) {
            last.pop_if(|before| before[..4] == record[..4]);
            last.push(record);
        }
        kept.extend(&lines[records_begin - 8..records_begin - 4]);
        kept.extend(u32::try_from(last.len())?.to_le_bytes());
        kept.extend(last.concat());
    }
    // What follows the lines stays where it is; between is a gap.
    lines.fill(0);
    lines[..kept.len()].copy_from_slice(&kept);
    let size = u32::try_from(kept.len())?.to_le_bytes();
    btf_ext[LINES_SIZE_AT..LINES_SIZE_AT + 4].copy_from_slice(&size);
    Ok(())
}

/// Octets that follow a type's head.
fn trailer_size(kind: u32, count: usize) -> Result<usize> {
    Ok(match kind {
        // Pointers, forwards, typedefs, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Enumerators and parameters.
        6 | 13 => 8 * count,
        // Members, variables of a section, 64-bit enumerators.
        4 | 5 | 15 | 19 => 12 * count,
        other => bail!("BTF of kind {other} is not known here"),
    })
}

/// Where a section of a little-endian 64-bit ELF file lies in it.
fn section(elf: &[u8], name: &[u8]) -> Option<Range<usize>> {
    let header = |index: usize| {
        let begin = usize::try_from(u64_at(elf, 0x28)?).ok()?;
        elf.get(begin + index * 64..begin + (index + 1) * 64)
    };
    let place = |header: &[u8]| {
        let begin = usize::try_from(u64_at(header, 24)?).ok()?;
        Some(begin..begin + usize::try_from(u64_at(header, 32)?).ok()?)
    };
    let count = usize::from(u16_at(elf, 0x3c).ok()?);
    let names = elf.get(place(header(usize::from(u16_at(elf, 0x3e).ok()?))?)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let own = names.get(size_at(header, 0).ok()?..)?;
        (own.strip_prefix(name)?.first() == Some(&0)).then(|| place(header))?
    })
}

fn u16_at(octets: &[u8], at: usize) -> Result<u16> {
    let found = octets.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*found.context("the object is cut")?))
}

fn u32_at(octets: &[u8], at: usize) -> Result<u32> {
    let found = octets.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*found.context("the object is cut")?))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    octets.get(at..)?.first_chunk().map(|found| u64::from_le_bytes(*found))
}

fn size_at(octets: &[u8], at: usize) -> Result<usize> {
    Ok(u32_at(octets, at)? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A file of four sections: none, their names, `.BTF.ext` with these lines, `.BTF` with
    /// these types.
    fn object(types: &[u32], lines: &[u32]) -> Vec<u8> {
        let names = b"\0.strtab\0.BTF.ext\0.BTF\0";
        let (types, lines) = (words(types), words(lines));
        let (types_size, lines_size) = (types.len() as u32, lines.len() as u32);
        let btf = [words(&[0x1_eb9f, 24, 0, types_size, types_size, 0]), types].concat();
        let ext = [words(&[0x1_eb9f, 24, 0, 0, 0, lines_size]), lines].concat();
        let mut object = vec![0; 64];
        let mut headers = vec![0; 64];
        for (name, content) in [(1_u32, &names[..]), (9, &ext), (18, &btf)] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&(object.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            headers.extend(header);
            object.extend(content);
        }
        let headers_at = (object.len() as u64).to_le_bytes();
        object[0x28..0x30].copy_from_slice(&headers_at);
        object[0x3c] = 4;
        object[0x3e] = 1;
        object.extend(headers);
        object
    }

    #[test]
    fn members_of_unions_are_put_at_the_beginning_and_nothing_else_changes() {
        let integer = [1, 1 << 24, 4, 32];
        let structure = [1, 4 << 24 | 2, 8, 1, 1, 0, 1, 1, 32];
        let union = |offset| [1, 5 << 24 | 2, 8, 1, 1, 0, 1, 1, offset];
        let of =
            |offset| object(&[&integer[..], &structure, &union(offset), &integer].concat(), &[]);
        let mut changed = of(56);
        make_loadable(&mut changed).unwrap();
        assert_eq!(changed, of(0));
    }

    #[test]
    fn parameters_get_a_name_unless_they_have_one_or_no_type() {
        let function = [9, 12 << 24, 2];
        let prototype = |second| [0, 13 << 24 | 3, 0, 7, 1, second, 1, 0, 0];
        let of = |second| object(&[&prototype(second)[..], &function].concat(), &[]);
        let mut changed = of(0);
        make_loadable(&mut changed).unwrap();
        assert_eq!(changed, of(9));
    }

    #[test]
    fn of_the_lines_of_an_instruction_the_last_is_kept() {
        let before = [16, 1, 3, 0, 5, 5, 5, 8, 6, 6, 6, 8, 7, 7, 7, 2, 2, 0, 5, 5, 5, 8, 6, 6, 6];
        let after = [16, 1, 2, 0, 5, 5, 5, 8, 7, 7, 7, 2, 2, 0, 5, 5, 5, 8, 6, 6, 6, 0, 0, 0, 0];
        let mut changed = object(&[1, 2 << 24, 1], &before);
        make_loadable(&mut changed).unwrap();
        let mut expected = object(&[1, 2 << 24, 1], &after);
        let size_at = section(&expected, b".BTF.ext").unwrap().start + 20;
        expected[size_at] -= 16;
        assert_eq!(changed, expected);
    }

    #[test]
    fn damage_is_an_error() {
        assert!(make_loadable(&mut object(&[1, 31 << 24, 0], &[])).is_err());
        assert!(make_loadable(&mut object(&[1, 5 << 24 | 2, 8, 1], &[])).is_err());
        let whole = object(&[1, 2 << 24, 1], &[16, 1, 1, 0, 5, 5, 5]);
        for size in 0..whole.len() {
            assert!(make_loadable(&mut whole[..size].to_vec()).is_err(), "{size}");
        }
    }
}
