//! The interfaces of this network namespace, as the kernel lists them (rtnetlink), and which of them lead to pods.

use std::fs;
use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Whether its other end may be a pod's.
    pub(super) pair: bool,
    pub(super) bridge: bool,
}

/// All interfaces, by index.
pub(super) fn links() -> io::Result<Vec<Link>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
    );
    request.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut links = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => {
                    links.sort_by_key(|link: &Link| link.index);
                    return Ok(links);
                }
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    links.push(read(&link));
                }
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
    }
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        pair: false,
        bridge: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::LinkInfo(infos) => {
                let bridge = LinkInfo::Kind(InfoKind::Bridge);
                link.bridge |= infos.contains(&bridge);
                link.pair |= infos.iter().any(|info| match info {
                    LinkInfo::Kind(InfoKind::Veth) => true,
                    LinkInfo::Kind(InfoKind::Other(kind)) => kind == "netkit",
                    _ => false,
                });
            }
            _ => {}
        }
    }
    link
}

/// Interfaces that the default routes leave by: the way out, whatever their kind.
pub(super) fn uplinks() -> Vec<String> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let v4 = v4.lines().filter_map(|line| {
        // Interface, destination, …, mask.
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let destination = fields.next()?;
        let mask = fields.nth(5)?;
        (destination == "00000000" && mask == "00000000").then(|| name.to_owned())
    });
    let v6 = v6.lines().filter_map(|line| {
        // Destination, its length, …, interface.
        let mut fields = line.split_whitespace();
        let (destination, length) = (fields.next()?, fields.next()?);
        let everything = length == "00" && destination.bytes().all(|digit| digit == b'0');
        let name = fields.next_back().filter(|name| *name != "lo")?;
        everything.then(|| name.to_owned())
    });
    let mut names: Vec<String> = v4.chain(v6).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed_and_leads_to_no_pod() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((loopback.index, loopback.pair), (1, false));
    }
}
