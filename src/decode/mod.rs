//! One frame to one borrowed packet: stateless and total.
