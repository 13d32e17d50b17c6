//! DNS messages (RFC 1035), written by hand: questions with EDNS, and answers of the types that matter.
//!
//! Knows messages alone; who forwards them to whom is the resolver's business.

use std::net::Ipv4Addr;

/// Record types.
pub const A: u16 = 1;
/// Alias.
pub const CNAME: u16 = 5;
/// Name of an address.
pub const PTR: u16 = 12;
/// Free text.
pub const TXT: u16 = 16;
/// IPv6 address.
pub const AAAA: u16 = 28;
/// Where a service is.
pub const SRV: u16 = 33;

const SOA: u16 = 6;
const OPT: u16 = 41;
const CLASS_IN: u16 = 1;
/// A pointer to the name at offset 12: the question's.
const QUESTION_NAME: [u8; 2] = [0xc0, 12];

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// An alias; the records after it are the alias's.
    Cname(String),
    /// The name of an address.
    Ptr(String),
    /// Text; the strings of at most 255 bytes are made here.
    Txt(Vec<u8>),
    /// Priority, weight, port, host.
    Srv(u16, u16, u16, String),
}

/// How a question is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Records, all with one time to live in seconds.
    Records(u32, Vec<Data>),
    /// The name exists, but has no record of that type.
    NoData,
    /// The name does not exist.
    NoSuchName,
}

/// A question, as a resolver library or a forwarder sends it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name; labels are joined by dots, without a trailing one.
    pub name: &'a str,
    /// The record type asked for.
    pub kind: u16,
    /// The UDP size offered by EDNS, if any.
    pub edns: Option<u16>,
}

impl Question<'_> {
    /// The message that asks it.
    pub fn ask(&self, id: u16) -> Vec<u8> {
        let mut out = header(id, 0x0100, 0, 0, u16::from(self.edns.is_some()));
        self.write(&mut out);
        out
    }

    /// The message that answers it. `authoritative` is for who owns the name; others say that recursion is available.
    pub fn answer(&self, id: u16, answer: &Answer, authoritative: bool) -> Vec<u8> {
        let flags = if authoritative { 0x8500 } else { 0x8180 };
        let edns = u16::from(self.edns.is_some());
        let mut out;
        match answer {
            Answer::Records(ttl, records) => {
                out = header(id, flags, records.len() as u16, 0, edns);
                self.write_question(&mut out);
                let mut owner = None;
                for record in records {
                    write_record(&mut out, owner, *ttl, record);
                    if let Data::Cname(alias) = record {
                        owner = Some(alias.as_str());
                    }
                }
            }
            Answer::NoData | Answer::NoSuchName => {
                let rcode = if *answer == Answer::NoData { 0 } else { 3 };
                out = header(id, flags | rcode, 0, 1, edns);
                self.write_question(&mut out);
                self.write_authority(&mut out);
            }
        }
        self.write_edns(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.write_question(out);
        self.write_edns(out);
    }

    fn write_question(&self, out: &mut Vec<u8>) {
        write_name(out, self.name);
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
    }

    fn write_edns(&self, out: &mut Vec<u8>) {
        if let Some(size) = self.edns {
            out.push(0);
            out.extend_from_slice(&OPT.to_be_bytes());
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
    }

    /// The zone's SOA, which says how long "no" may be remembered (RFC 2308).
    fn write_authority(&self, out: &mut Vec<u8>) {
        let zone = if self.name.ends_with("cluster.local") {
            "cluster.local"
        } else {
            self.name.rsplit_once('.').map_or(self.name, |(_, top)| top)
        };
        write_name(out, zone);
        out.extend_from_slice(&SOA.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out.extend_from_slice(&30_u32.to_be_bytes());
        let mut data = Vec::new();
        write_name(&mut data, &format!("ns.dns.{zone}"));
        write_name(&mut data, &format!("hostmaster.{zone}"));
        for number in [1_772_441_000_u32, 7200, 1800, 86_400, 30] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
    }
}

fn header(id: u16, flags: u16, answers: u16, authorities: u16, additional: u16) -> Vec<u8> {
    [id, flags, 1, answers, authorities, additional]
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .collect()
}

fn write_record(out: &mut Vec<u8>, owner: Option<&str>, ttl: u32, record: &Data) {
    match owner {
        Some(name) => write_name(out, name),
        None => out.extend_from_slice(&QUESTION_NAME),
    }
    let mut data = Vec::new();
    let kind = match record {
        Data::A(ip) => {
            data.extend_from_slice(&ip.octets());
            A
        }
        Data::Cname(name) => {
            write_name(&mut data, name);
            CNAME
        }
        Data::Ptr(name) => {
            write_name(&mut data, name);
            PTR
        }
        Data::Txt(text) => {
            for part in text.chunks(255) {
                data.push(part.len() as u8);
                data.extend_from_slice(part);
            }
            TXT
        }
        Data::Srv(priority, weight, port, host) => {
            for field in [priority, weight, port] {
                data.extend_from_slice(&field.to_be_bytes());
            }
            write_name(&mut data, host);
            SRV
        }
    };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(&data);
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|&len| len < 64)
            .expect("a label has at most 63 bytes");
        out.push(len);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Packet, RCODE, rdata::RData};

    const QUESTION: Question<'static> = Question {
        name: "api.shop.svc.cluster.local",
        kind: A,
        edns: Some(1232),
    };

    #[test]
    fn questions_read_back() {
        let bytes = QUESTION.ask(0x1234);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 0x1234);
        assert_eq!(packet.questions[0].qname.to_string(), QUESTION.name);
        assert_eq!(packet.opt().unwrap().udp_packet_size, 1232);
    }

    #[test]
    fn an_alias_owns_the_records_after_it() {
        let records = vec![
            Data::Cname("edge.example".into()),
            Data::A(Ipv4Addr::new(198, 51, 100, 7)),
        ];
        let bytes = QUESTION.answer(7, &Answer::Records(30, records), false);
        let packet = Packet::parse(&bytes).unwrap();
        let owners: Vec<String> = packet.answers.iter().map(|a| a.name.to_string()).collect();
        assert_eq!(owners, [QUESTION.name, "edge.example"]);
        assert!(matches!(packet.answers[1].rdata, RData::A(_)));
    }

    #[test]
    fn refusals_name_the_zone() {
        for (answer, rcode) in [
            (Answer::NoData, RCODE::NoError),
            (Answer::NoSuchName, RCODE::NameError),
        ] {
            let bytes = QUESTION.answer(7, &answer, true);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.rcode(), rcode);
            assert_eq!(packet.name_servers[0].name.to_string(), "cluster.local");
        }
    }

    #[test]
    fn long_text_is_cut_into_strings() {
        let bytes = QUESTION.answer(
            7,
            &Answer::Records(0, vec![Data::Txt(vec![b'x'; 300])]),
            false,
        );
        let packet = Packet::parse(&bytes).unwrap();
        let RData::TXT(text) = &packet.answers[0].rdata else {
            panic!("no text")
        };
        assert_eq!(String::try_from(text.clone()).unwrap().len(), 300);
    }
}
