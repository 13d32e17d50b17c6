//! Conversations: how hosts connect, ask and answer, in the real bytes of each protocol.
//!
//! Knows hosts and times, nothing of clusters or attacks.

pub mod certificate;
pub mod datagram;
pub mod dns;
pub mod grpc;
pub mod http;
pub mod mongo;
pub mod mysql;
pub mod oci;
pub mod postgres;
pub mod redis;
pub mod shell;
pub mod ssh;
pub mod tcp;
pub mod tls;
pub mod websocket;
