//! Which interfaces are metered: by name, or all but those that match a pattern.

use crate::probe::Link;
use crate::query::field::edit_distance;
use anyhow::{Result, bail};

/// Which interfaces are metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those of these names.
    Named(Vec<String>),
    /// All but loopback and those whose names match one of these patterns.
    All {
        /// `*` stands for any letters, also none; `?` for one letter.
        exclude: Vec<String>,
    },
}

impl Selection {
    /// Is this interface to be metered?
    #[must_use]
    pub fn wants(&self, link: &Link) -> bool {
        match self {
            Self::Named(names) => names.contains(&link.name),
            Self::All { exclude } => {
                !link.is_loopback && !exclude.iter().any(|pattern| matches(pattern, &link.name))
            }
        }
    }

    /// Looks whether every interface that was named is there.
    pub(super) fn check(&self, links: &[&Link]) -> Result<()> {
        let Self::Named(names) = self else { return Ok(()) };
        for name in names {
            if links.iter().any(|link| link.name == *name) {
                continue;
            }
            let names = links.iter().map(|link| link.name.as_str());
            match names.min_by_key(|other| edit_distance(name, other)) {
                Some(near) => {
                    bail!("there is no interface `{name}`; the nearest is `{near}`, see `ip link`")
                }
                None => bail!("there is no interface `{name}`, nor any other"),
            }
        }
        Ok(())
    }
}

/// Does the whole name match the pattern? In time of at most their sizes' product.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut next) = (0, 0);
    // Where the last star stands, and which letter is the first that it does not stand for.
    let mut star = None;
    while next < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(&letter) if letter == '?' || letter == name[next] => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((place, until)) = star else { return false };
                star = Some((place, until + 1));
                (at, next) = (place + 1, until + 1);
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{LinkCounters, LinkType};

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            description: String::new(),
            link_type: LinkType::Ethernet,
            is_loopback: name == "lo",
            is_physical: false,
            is_up: true,
            received: LinkCounters::default(),
            sent: LinkCounters::default(),
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is_match) in [
            ("veth*", "veth0a1b", true),
            ("veth*", "veth", true),
            ("veth*", "myveth0", false),
            ("*0", "eth0", true),
            ("*0", "eth01", false),
            ("eth?", "eth1", true),
            ("eth?", "eth", false),
            ("eth?", "eth10", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*aab", "aaaaab", true),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("docker0", "docker0", true),
            ("**?", "x", true),
            ("[a-z]*", "eth0", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
        let long = "a".repeat(4_000);
        assert!(!matches(&"*a".repeat(2_000).replace("a*", "a*b"), &long));
    }

    #[test]
    fn all_leaves_out_loopback_and_what_is_excluded() {
        let all = Selection::All { exclude: vec!["veth*".into(), "docker?".into()] };
        let wanted = |name| all.wants(&link(3, name));
        assert!(wanted("eth0") && wanted("docker10") && wanted("wg0"));
        assert!(!wanted("lo") && !wanted("veth9") && !wanted("docker0"));
        let named = Selection::Named(vec!["lo".into(), "eth0".into()]);
        assert!(named.wants(&link(1, "lo")) && named.wants(&link(2, "eth0")));
        assert!(!named.wants(&link(3, "eth01")));
    }

    #[test]
    fn an_unknown_name_is_told_with_the_nearest() {
        let links = [link(1, "lo"), link(2, "enp3s0"), link(3, "wlan0")];
        let links: Vec<&Link> = links.iter().collect();
        let named = |name: &str| Selection::Named(vec!["lo".into(), name.into()]);
        assert!(named("wlan0").check(&links).is_ok());
        let error = named("emp3s0").check(&links).unwrap_err().to_string();
        assert!(error.contains("`emp3s0`") && error.contains("`enp3s0`"), "{error}");
        assert!(named("x").check(&[]).is_err());
        assert!(Selection::All { exclude: Vec::new() }.check(&[]).is_ok());
    }
}
