//! Text of the command line -> typed values, each mistake one line that says what was expected.

use super::args::store::expire::Keep;
use crate::app::collect::{ListenAddress, Prefix, Retention, Transport};
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
    let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        bail!("`{url}` names no port of 1 to 65535; write udp://HOST:PORT");
    }
    let mut addresses = host
        .to_socket_addrs()
        .with_context(|| format!("`{url}` cannot be resolved; write udp://HOST:PORT"))?;
    addresses.next().with_context(|| format!("`{url}`: the host has no address"))
}

/// Where collectors are, each of them once.
pub(super) fn collectors(urls: &[String]) -> Result<Vec<SocketAddr>> {
    let mut collectors = Vec::new();
    for url in urls {
        let address = collector(url)?;
        if !collectors.contains(&address) {
            collectors.push(address);
        }
    }
    Ok(collectors)
}

/// Where to listen, each address once.
pub(super) fn listen(urls: &[String]) -> Result<Vec<ListenAddress>> {
    let mut addresses = Vec::new();
    for url in urls {
        let address = listen_address(url)?;
        // Port 0 is another one each time.
        if addresses.contains(&address) && address.address.port() != 0 {
            bail!("--listen: {address} is named twice");
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn listen_address(url: &str) -> Result<ListenAddress> {
    let wrong = || {
        format!(
            "`{url}` is not an address to listen on; write udp://ADDR:PORT or tcp://ADDR:PORT, \
             such as udp://0.0.0.0:2055"
        )
    };
    let (transport, host) = match url.split_once("://") {
        Some(("udp", host)) => (Transport::Udp, host),
        Some(("tcp", host)) => (Transport::Tcp, host),
        Some((scheme, _)) => {
            bail!("`{url}`: {scheme} is not supported; write udp://ADDR:PORT or tcp://ADDR:PORT")
        }
        None => bail!("{}", wrong()),
    };
    let address = host.parse().with_context(wrong)?;
    Ok(ListenAddress { transport, address })
}

/// Who may send.
pub(super) fn allow(prefixes: &[String]) -> Result<Vec<Prefix>> {
    prefixes.iter().map(|text| text.trim().parse().context("--allow")).collect()
}

/// An address of an option at which to answer.
#[cfg(feature = "http")]
pub(super) fn bind(option: &str, text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| {
        format!(
            "{option}: `{text}` is not an address with a port; write 127.0.0.1:9100 or [::]:9100"
        )
    })
}

/// A duration of an option.
pub(super) fn duration(option: &str, text: &str) -> Result<Duration> {
    let duration = quantity::parse_duration(text).with_context(|| option.to_owned())?;
    if duration.is_zero() {
        bail!("{option}: `{text}` is no time at all; write 15s or more");
    }
    Ok(duration)
}

/// How long to wait with something, in milliseconds; maybe not at all.
pub(super) fn wait(option: &str, text: &str) -> Result<i64> {
    let wait = quantity::parse_duration(text).with_context(|| option.to_owned())?;
    // A duration of an option is one that milliseconds can tell.
    Ok(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// A speed of an option, as a multiple of the capture's own; none is as fast as possible.
pub(super) fn speed(option: &str, text: &str) -> Result<Option<f64>> {
    if text == "max" {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Some(speed)),
        _ => bail!("{option}: `{text}` is not a speed; write 1, 2, 0.5, or max"),
    }
}

/// A size of an option.
pub(super) fn size(option: &str, text: &str) -> Result<u64> {
    quantity::parse_size(text).with_context(|| option.to_owned())
}

/// How much of the archive is kept.
pub(super) fn retention(keep: &Keep) -> Result<Retention> {
    let Keep { keep_for, keep_size, keep_free, keep_ledger_for } = keep;
    let octets =
        |option, text: &Option<String>| text.as_deref().map(|text| size(option, text)).transpose();
    let millis = |option, text: &Option<String>| {
        let time = text.as_deref().map(|text| duration(option, text)).transpose()?;
        // A duration of an option is one that milliseconds can tell.
        let millis = time.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        Ok::<_, anyhow::Error>(millis)
    };
    if keep_size.as_deref().is_some_and(|text| quantity::parse_size(text) == Ok(0)) {
        bail!("--keep-size: 0 would keep nothing; write 20GB, or leave it out to keep all");
    }
    Ok(Retention {
        keep_millis: millis("--keep-for", keep_for)?,
        keep_ledger_millis: millis("--keep-ledger-for", keep_ledger_for)?,
        keep_size: octets("--keep-size", keep_size)?,
        keep_free: octets("--keep-free", keep_free)?,
    })
}

/// How many rows an answer may have; 0 is all.
pub(super) fn limit(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_not_a_count| "write how many rows, such as 20, or 0 for all".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_udp_with_host_and_port() {
        assert_eq!(collector("udp://127.0.0.1:2055").unwrap().port(), 2055);
        let urls = ["udp://127.0.0.1:2055", "udp://127.0.0.1:9995", "udp://127.0.0.1:2055"];
        assert_eq!(collectors(&urls.map(str::to_owned)).unwrap().len(), 2);
        for port in ["0", "65536", "x", ""] {
            let words = collector(&format!("udp://127.0.0.1:{port}")).unwrap_err().to_string();
            assert!(words.contains("1 to 65535"), "{words}");
        }
        for wrong in ["127.0.0.1:2055", "tcp://127.0.0.1:2055", "udp://127.0.0.1"] {
            assert!(collector(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_to_listen_on_are_of_udp_and_tcp_and_named_once() {
        let listen = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            listen(&urls).map(|addresses| {
                addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            })
        };
        let all =
            ["udp://[::]:2055", "tcp://0.0.0.0:2055", "udp://127.0.0.1:0", "udp://127.0.0.1:0"];
        assert_eq!(listen(&all).unwrap(), all.join(" "));
        for wrong in ["127.0.0.1:2055", "udp://127.0.0.1", "tcp://host:1", "sctp://127.0.0.1:1"] {
            let words = listen(&[wrong]).unwrap_err().to_string();
            assert!(words.contains(wrong) && words.contains("tcp://ADDR:PORT"), "{words}");
        }
        let words = listen(&["tcp://[::]:1", "tcp://[::]:1"]).unwrap_err().to_string();
        assert_eq!(words, "--listen: tcp://[::]:1 is named twice");
    }

    #[test]
    fn who_may_send_is_prefixes() {
        let allow = |text: &str| allow(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(allow("192.0.2.0/24, ::1").unwrap().len(), 2);
        let error = format!("{:#}", allow("192.0.2.0/24,router").unwrap_err());
        assert!(error.starts_with("--allow: `router` is no address or prefix"), "{error}");
    }

    #[test]
    fn times_and_sizes_name_their_option() {
        let error = duration("--active-timeout", "x").unwrap_err();
        assert!(format!("{error:#}").contains("--active-timeout"));
        assert!(duration("--active-timeout", "0s").is_err());
        assert_eq!(size("--ring-size", "64MiB").unwrap(), 64 << 20);
    }

    #[test]
    fn a_speed_is_a_factor_or_the_most_there_is() {
        assert_eq!(speed("--speed", "2").unwrap(), Some(2.0));
        assert_eq!(speed("--speed", "0.25").unwrap(), Some(0.25));
        assert_eq!(speed("--speed", "max").unwrap(), None);
        for wrong in ["0", "-1", "inf", "NaN", "fast", ""] {
            let words = speed("--speed", wrong).unwrap_err().to_string();
            assert!(words.starts_with("--speed") && words.contains("max"), "{words}");
        }
    }
}
