//! A network interface as a source of frames: libpcap's handle, what may be asked of it, and what the kernel counted.
//! Never waits: whoever reads decides how. Looks at no clock.

use std::os::fd::{AsFd, BorrowedFd};

use pcap::{Active, BpfInstruction, Capture, Device, Error, Linktype, Precision};
use socket2::{SockFilter, SockRef};

use super::{Frame, LinkType};
use crate::time::Timestamp;

/// The pseudo-device of all interfaces, present and to come.
pub const EVERY_INTERFACE: &str = "any";

/// How an interface is captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveOptions {
    /// Bytes kept of each frame. Hosts hand frames of 64 KiB to one another (offloads), so less loses payload.
    pub snaplen: u32,
    /// Bytes that the kernel keeps while nobody reads.
    pub buffer: u32,
    /// Whether frames for others are wanted too.
    pub promiscuous: bool,
    /// Milliseconds after which the kernel hands over what it has.
    pub patience: u16,
    /// A BPF expression.
    pub filter: Option<String>,
}

impl Default for LiveOptions {
    /// 256 KiB of a frame, 8 MiB of buffer, a tenth of a second.
    fn default() -> Self {
        Self {
            snaplen: 256 << 10,
            buffer: 8 << 20,
            promiscuous: false,
            patience: 100,
            filter: None,
        }
    }
}

/// Why an interface can't be captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// It could not be opened.
    #[error("cannot capture on {interface}: {problem}{}", remedy(.problem))]
    Open {
        /// The interface.
        interface: String,
        /// libpcap's words.
        problem: String,
    },
    /// Its frames are of a kind that decode can't read.
    #[error(
        "{interface} has link type {number}, which is not supported (supported: Ethernet, Linux cooked, raw IP, BSD loopback)"
    )]
    LinkType {
        /// The interface.
        interface: String,
        /// libpcap's number.
        number: i32,
    },
    /// The filter can't be applied.
    #[error(
        "filter {filter:?} can't be applied to {interface}: {problem}; pcap-filter(7) has the syntax"
    )]
    Filter {
        /// The interface.
        interface: String,
        /// What the user gave.
        filter: String,
        /// libpcap's words.
        problem: String,
    },
    /// It was open and is gone: unplugged, removed, taken down.
    #[error("{interface} can't be captured any more: {problem}")]
    Lost {
        /// The interface.
        interface: String,
        /// libpcap's words.
        problem: String,
    },
}

/// What the kernel counted since the capture began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KernelCounts {
    /// Frames that passed the filter, those dropped included.
    pub received: u64,
    /// Frames dropped because the buffer was full.
    pub dropped: u64,
    /// Frames that the interface or its driver dropped before the kernel saw them; not in `received`.
    pub missed: u64,
}

/// An open interface.
pub struct Live {
    interface: String,
    handle: Capture<Active>,
    link: LinkType,
    counts: KernelCounts,
    /// The handle's own counters, which wrap.
    raw: [u32; 3],
}

impl Live {
    /// Begins to capture on an interface.
    ///
    /// # Errors
    /// When there is no such interface, when it may not be captured, and when the filter doesn't fit it.
    pub fn open(interface: &str, options: &LiveOptions) -> Result<Self, LiveError> {
        let failed = |error: Error| LiveError::Open {
            interface: interface.to_owned(),
            problem: words(error),
        };
        let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let mut handle = Capture::from_device(interface)
            .map_err(failed)?
            .snaplen(int(options.snaplen))
            .buffer_size(int(options.buffer))
            .promisc(options.promiscuous)
            .precision(Precision::Nano)
            .timeout(options.patience.into())
            .open()
            .map_err(failed)?
            .setnonblock()
            .map_err(failed)?;
        if interface == EVERY_INTERFACE {
            // Tells the interface of each frame. libpcap before 1.10 has the older form alone.
            let cooked = Linktype(LinkType::LinuxSll2.dlt());
            handle.set_datalink(cooked).or_else(|_| {
                handle
                    .set_datalink(Linktype(LinkType::LinuxSll.dlt()))
                    .map_err(failed)
            })?;
        }
        let number = handle.get_datalink().0;
        let link = u32::try_from(number).ok().and_then(LinkType::from_number);
        let link = link.ok_or_else(|| LiveError::LinkType {
            interface: interface.to_owned(),
            number,
        })?;
        if let Some(filter) = &options.filter {
            let refused = |error| LiveError::Filter {
                interface: interface.to_owned(),
                filter: filter.clone(),
                problem: words(error),
            };
            handle.filter(filter, true).map_err(refused)?;
        }
        see_once(&mut handle, interface, link, options.filter.as_deref()).map_err(failed)?;
        Ok(Self {
            interface: interface.to_owned(),
            handle,
            link,
            counts: KernelCounts::default(),
            raw: [0; 3],
        })
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// How its frames begin.
    pub const fn link(&self) -> LinkType {
        self.link
    }

    /// The next frame that waits, if one does.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, LiveError> {
        let link = self.link;
        match self.handle.next_packet() {
            Ok(packet) => {
                let stamp = packet.header.ts;
                Ok(Some(Frame {
                    // Asked for nanoseconds, the field named micro holds those.
                    time: Timestamp::from_secs_nanos(stamp.tv_sec, stamp.tv_usec as u32),
                    link,
                    wire_len: packet.header.len,
                    interface: 0,
                    data: packet.data,
                }))
            }
            Err(Error::TimeoutExpired | Error::NoMorePackets) => Ok(None),
            Err(error) => Err(LiveError::Lost {
                interface: self.interface.clone(),
                problem: words(error),
            }),
        }
    }

    /// What the kernel counted so far. Of an interface that is gone: up to when it was last asked.
    pub fn counts(&mut self) -> KernelCounts {
        if let Ok(now) = self.handle.stats() {
            let now = [now.received, now.dropped, now.if_dropped];
            let counts = &mut self.counts;
            let sums = [
                &mut counts.received,
                &mut counts.dropped,
                &mut counts.missed,
            ];
            for ((sum, now), before) in sums.into_iter().zip(now).zip(self.raw) {
                *sum += u64::from(now.wrapping_sub(before));
            }
            self.raw = now;
        }
        self.counts
    }
}

impl AsFd for Live {
    /// Readable when frames wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Leaves out a loopback's frames as they go out, for the same come in again. libpcap passes those over by itself, but only
/// when the kernel has counted them and their room is taken.
fn see_once(
    handle: &mut Capture<Active>,
    interface: &str,
    link: LinkType,
    filter: Option<&str>,
) -> Result<(), Error> {
    let both =
        |once| filter.map_or_else(|| String::from(once), |user| format!("{once} and ({user})"));
    if interface == EVERY_INTERFACE {
        // The loopback is the first interface of every network namespace. The older form doesn't tell interfaces.
        return match link {
            LinkType::LinuxSll2 => handle.filter(&both("not (ifindex 1 and outbound)"), true),
            _ => Ok(()),
        };
    }
    let loopback = |device: &Device| device.name == interface && device.flags.is_loopback();
    if !Device::list()?.iter().any(loopback) {
        return Ok(());
    }
    // Where frames don't say their direction the kernel alone knows it, and libpcap runs every filter itself as well over the
    // first frames: it would find none of them to be inbound.
    let program = handle.compile(&both("inbound"), true)?;
    let instructions = program.get_instructions().iter().map(sock_filter);
    let instructions: Option<Vec<_>> = instructions.collect();
    let instructions = instructions.ok_or(Error::InvalidInputString)?;
    SockRef::from(&*handle)
        .attach_filter(&instructions)
        .map_err(|error| Error::PcapError(error.to_string()))
}

/// An instruction for the kernel. The crate shows its four numbers, as `tcpdump -ddd` does, and no other way to them.
fn sock_filter(instruction: &BpfInstruction) -> Option<SockFilter> {
    let shown = instruction.to_string();
    let mut numbers = shown.split(' ');
    let mut next = || numbers.next()?.parse::<u32>().ok();
    let [code, jt, jf, k] = [next()?, next()?, next()?, next()?];
    let jump = |to: u32| u8::try_from(to).ok();
    Some(SockFilter::new(
        u16::try_from(code).ok()?,
        jump(jt)?,
        jump(jf)?,
        k,
    ))
}

fn words(error: Error) -> String {
    match error {
        Error::PcapError(words) => words,
        other => other.to_string(),
    }
}

fn remedy(problem: &str) -> &'static str {
    if problem.contains("permi") || problem.contains("not permitted") {
        "; run as root, or with the capability NET_RAW"
    } else if problem.contains("No such device") {
        "; 'ip link' lists the interfaces"
    } else {
        ""
    }
}
