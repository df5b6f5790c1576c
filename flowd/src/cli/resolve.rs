//! Text of the command line -> typed values, each mistake one line that says what was expected.

use crate::query::quantity;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// The host and port of a UDP URL.
fn udp_host(url: &str) -> Result<&str> {
    match url.split_once("://") {
        Some(("udp", host)) => Ok(host),
        Some((scheme, _)) => bail!("`{url}`: {scheme} is not supported; write udp://HOST:PORT"),
        None => bail!("`{url}` is not a URL; write udp://HOST:PORT"),
    }
}

/// Where a collector is.
pub(super) fn collector(url: &str) -> Result<SocketAddr> {
    let host = udp_host(url)?;
    if host.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        bail!("`{url}` names no port; write udp://HOST:PORT");
    }
    let mut addresses = host
        .to_socket_addrs()
        .with_context(|| format!("`{url}` cannot be resolved; write udp://HOST:PORT"))?;
    addresses.next().with_context(|| format!("`{url}`: the host has no address"))
}

/// Where to listen.
pub(super) fn listen(url: &str) -> Result<SocketAddr> {
    let host = udp_host(url)?;
    let wrong = || {
        format!(
            "`{url}` is not an address to listen on; write udp://ADDR:PORT, such as udp://0.0.0.0:2055"
        )
    };
    host.parse().with_context(wrong)
}

/// A duration of an option.
pub(super) fn duration(option: &str, text: &str) -> Result<Duration> {
    let duration = quantity::parse_duration(text).with_context(|| option.to_owned())?;
    if duration.is_zero() {
        bail!("{option}: `{text}` is no time at all; write 15s or more");
    }
    Ok(duration)
}

/// A size of an option.
pub(super) fn size(option: &str, text: &str) -> Result<u64> {
    quantity::parse_size(text).with_context(|| option.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_udp_with_host_and_port() {
        assert_eq!(collector("udp://127.0.0.1:2055").unwrap().port(), 2055);
        assert_eq!(listen("udp://[::]:2055").unwrap().port(), 2055);
        for wrong in ["127.0.0.1:2055", "tcp://127.0.0.1:2055", "udp://127.0.0.1"] {
            assert!(collector(wrong).is_err(), "{wrong}");
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_sizes_name_their_option() {
        let error = duration("--active-timeout", "x").unwrap_err();
        assert!(format!("{error:#}").contains("--active-timeout"));
        assert!(duration("--active-timeout", "0s").is_err());
        assert_eq!(size("--ring-size", "64MiB").unwrap(), 64 << 20);
    }
}
