//! BPF filter expressions (pcap-filter(7)), compiled by libpcap per link type. Decides on frames; drops none itself.

use pcap::{BpfProgram, Capture, Linktype};

use super::{CaptureError, Frame, LinkType};

/// A filter expression.
///
/// On frames cut by a snap length, `len`, `less` and `greater` see the captured length.
pub struct Filter {
    expression: String,
    /// What became of the expression for each link type, once asked for: a long list of hosts takes long to compile.
    programs: [Option<Result<BpfProgram, String>>; LinkType::ALL.len()],
}

impl Filter {
    /// Checks an expression.
    ///
    /// # Errors
    /// When it is not valid for any supported link type; the words are libpcap's for Ethernet.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        let mut filter = Self {
            expression: expression.to_owned(),
            programs: Default::default(),
        };
        let Err(error) = filter.program(LinkType::Ethernet) else {
            return Ok(filter);
        };
        // Some expressions make sense on other link types alone.
        let valid = LinkType::ALL
            .iter()
            .any(|&link| filter.program(link).is_ok());
        if valid { Ok(filter) } else { Err(error) }
    }

    /// Whether a frame is wanted.
    ///
    /// # Errors
    /// When the expression can't be applied to frames of this link type (`ether host` to raw IP).
    pub fn matches(&mut self, frame: &Frame<'_>) -> Result<bool, CaptureError> {
        Ok(self.program(frame.link)?.filter(frame.data))
    }

    fn program(&mut self, link: LinkType) -> Result<&BpfProgram, CaptureError> {
        self.programs[link as usize]
            .get_or_insert_with(|| compile(&self.expression, link))
            .as_ref()
            .map_err(|problem| CaptureError::Filter {
                filter: self.expression.clone(),
                link,
                problem: problem.clone(),
            })
    }
}

fn compile(expression: &str, link: LinkType) -> Result<BpfProgram, String> {
    Capture::dead(Linktype(link.dlt()))
        .and_then(|handle| handle.compile(expression, true))
        .map_err(|error| match error {
            pcap::Error::PcapError(words) => words,
            other => other.to_string(),
        })
}
