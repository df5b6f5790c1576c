//! Names of IP protocols and of well-known ports: fixed tables, so that a filter means the same
//! on every machine.

/// Protocols by name. The first name of a number is the one that tables show.
const PROTOCOLS: &[(&str, u8)] = &[
    ("HOPOPT", 0),
    ("ICMP", 1),
    ("IGMP", 2),
    ("IPIP", 4),
    ("IP4", 4),
    ("TCP", 6),
    ("EGP", 8),
    ("IGP", 9),
    ("UDP", 17),
    ("RDP", 27),
    ("DCCP", 33),
    ("IPv6", 41),
    ("RSVP", 46),
    ("GRE", 47),
    ("ESP", 50),
    ("AH", 51),
    ("ICMP6", 58),
    ("ICMPv6", 58),
    ("IPv6-ICMP", 58),
    ("EIGRP", 88),
    ("OSPF", 89),
    ("ETHERIP", 97),
    ("PIM", 103),
    ("IPCOMP", 108),
    ("CARP", 112),
    ("VRRP", 112),
    ("L2TP", 115),
    ("ISIS", 124),
    ("SCTP", 132),
    ("UDPLite", 136),
    ("MPLS", 137),
];

/// Services by name, for ports in filters.
const SERVICES: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("epmap", 135),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap", 143),
    ("snmp", 161),
    ("snmptrap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("smb", 445),
    ("kpasswd", 464),
    ("submissions", 465),
    ("isakmp", 500),
    ("syslog", 514),
    ("submission", 587),
    ("ipp", 631),
    ("ldaps", 636),
    ("domain-s", 853),
    ("ftps", 990),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("oracle", 1521),
    ("l2tp", 1701),
    ("pptp", 1723),
    ("radius", 1812),
    ("nfs", 2049),
    ("mysql", 3306),
    ("ms-wbt-server", 3389),
    ("rdp", 3389),
    ("stun", 3478),
    ("ipsec-nat-t", 4500),
    ("vxlan", 4789),
    ("sip", 5060),
    ("sips", 5061),
    ("mdns", 5353),
    ("llmnr", 5355),
    ("postgresql", 5432),
    ("vnc", 5900),
    ("winrm", 5985),
    ("winrm-https", 5986),
    ("x11", 6000),
    ("redis", 6379),
    ("sflow", 6343),
    ("http-alt", 8080),
    ("https-alt", 8443),
    ("wireguard", 51_820),
];

/// The number of a protocol by its name, in any case of its letters.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    let known = PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|&(_, number)| number)
}

/// The name of a protocol that tables show; none for one without a name here.
#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    let known = PROTOCOLS.iter().find(|&&(_, known)| known == number);
    known.map(|&(name, _)| name)
}

/// The names of the protocols.
pub fn protocol_names() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.iter().map(|&(name, _)| name)
}

/// The port of a service by its name, in any case of its letters.
#[must_use]
pub fn service_port(name: &str) -> Option<u16> {
    let known = SERVICES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|&(_, port)| port)
}

/// The names of the services.
pub fn service_names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_found_by_name_and_number() {
        assert_eq!(protocol_number("tcp"), Some(6));
        assert_eq!(protocol_number("ipv6-icmp"), Some(58));
        assert_eq!(protocol_number("nonesuch"), None);
        assert_eq!(protocol_name(58), Some("ICMP6"));
        assert_eq!(protocol_name(200), None);
    }

    #[test]
    fn services_are_found_by_name() {
        assert_eq!(service_port("HTTPS"), Some(443));
        assert_eq!(service_port("nonesuch"), None);
    }
}
