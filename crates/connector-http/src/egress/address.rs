//! Which IP addresses are not the public internet.
//!
//! Owns the tables and nothing else: no names, no ports, no allow-lists.
//! Sources: the IANA special-purpose registries for IPv4 and IPv6, <https://www.iana.org/assignments/iana-ipv6-special-registry>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not public; `None` if it is.
pub(crate) fn not_public(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => not_public_v4(ip),
        IpAddr::V6(ip) => not_public_v6(ip),
    }
}

/// Whether an allow-listed *name* may lead here: addresses an organisation numbers its own machines with, and nothing that is
/// special on the machine or the cloud itself.
pub(crate) fn is_internal(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || is_shared(ip),
        // The metadata services of two clouds live in the unique-local range, so the range alone does not make it a company's own.
        IpAddr::V6(ip) => ip.is_unique_local() && !METADATA_V6.contains(&ip),
    }
}

/// The IPv6 addresses of the metadata services of AWS and Google Cloud.
const METADATA_V6: [Ipv6Addr; 2] = [Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254), Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)];

/// 100.64.0.0/10, behind carrier-grade NAT; also Alibaba Cloud's metadata service.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b) && ip != Ipv4Addr::new(100, 100, 100, 200)
}

fn not_public_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "an address of \"this network\"",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (100, 64..=127, _) => "a carrier-grade NAT address",
        (127, ..) => "a loopback address",
        (169, 254, _) => "a link-local address",
        (168, 63, 129) if ip == Ipv4Addr::new(168, 63, 129, 16) => "the platform address of a cloud",
        (192, 0, 0) => "an IETF protocol address",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "a documentation address",
        (192, 88, 99) => "a 6to4 relay address",
        (198, 18..=19, _) => "a benchmarking address",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn not_public_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, ..] = ip.segments();
    Some(match a {
        0 if ip == Ipv6Addr::LOCALHOST => "a loopback address",
        0 if ip == Ipv6Addr::UNSPECIFIED => "the unspecified address",
        0 if [b, c, d, e] == [0; 4] && f == 0xffff => "an IPv4-mapped address",
        0 if [b, c, d, e, f] == [0; 5] => "an IPv4-compatible address",
        0x64 if b == 0xff9b => "a NAT64 address",
        0xfc00..=0xfdff => "a unique local address",
        0xfe80..=0xfebf => "a link-local address",
        0xfec0..=0xfeff => "a site-local address",
        0xff00..=0xffff => "a multicast address",
        0x2001 if b == 0 => "a Teredo address",
        0x2001 if b < 0x0200 => "an IETF protocol address",
        0x2001 if b == 0x0db8 => "a documentation address",
        0x2002 => "a 6to4 address",
        0x3fff if b < 0x1000 => "a documentation address",
        // 2000::/3 is all that has been given out as global unicast.
        0x2000..=0x3fff => return None,
        _ => "a reserved address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: [&str; 66] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::10.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:808:808::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "ff0e::1",
    ];

    const PUBLIC: [&str; 20] = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.17",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450:4001::200e",
    ];

    #[test]
    fn everything_that_is_not_the_public_internet_is_named() {
        for text in REFUSED {
            assert!(not_public(text.parse().unwrap()).is_some(), "{text} must be refused");
        }
        for text in PUBLIC {
            assert_eq!(not_public(text.parse().unwrap()), None, "{text} must be allowed");
        }
    }

    #[test]
    fn internal_means_a_companys_own_numbers_and_never_the_machine_or_the_cloud() {
        for text in ["10.1.2.3", "172.20.0.1", "192.168.7.7", "100.64.1.1", "fd12:3456::1"] {
            assert!(is_internal(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:10.0.0.1",
            "8.8.8.8",
        ] {
            assert!(!is_internal(text.parse().unwrap()), "{text}");
        }
    }
}
