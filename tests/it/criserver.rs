//! A stand-in for a container runtime: gRPC on a Unix socket that lists pod sandboxes and tells their status, well and badly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, Response};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};

use crate::lab::Pod;

/// How it behaves at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// It closes connections.
    Closing,
    /// It knows no such service.
    Ignorant,
}

#[derive(Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

#[derive(Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "6")]
    annotations: BTreeMap<String, String>,
    #[prost(string, tag = "7")]
    handler: String,
}

#[derive(Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Message)]
struct Question {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Message)]
struct Network {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Message)]
struct Status {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(message, optional, tag = "5")]
    network: Option<Network>,
}

#[derive(Message)]
struct Reply {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

struct Shared {
    mood: Mood,
    pods: Vec<Pod>,
    /// The methods that were called, each as often as it was.
    called: BTreeMap<String, usize>,
}

/// The server; its thread ends with the test's process.
pub(crate) struct CriServer(Arc<Mutex<Shared>>);

impl CriServer {
    pub(crate) fn start(socket: &str) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            mood: Mood::Well,
            pods: Vec::new(),
            called: BTreeMap::new(),
        }));
        let (given, socket) = (Arc::clone(&shared), socket.to_owned());
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = UnixListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&given)));
                }
            });
        });
        Self(shared)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    pub(crate) fn put(&self, pod: &Pod) {
        self.0.lock().unwrap().pods.push(pod.clone());
    }

    pub(crate) fn remove(&self, pod: &Pod) {
        let mut shared = self.0.lock().unwrap();
        shared.pods.retain(|one| one.container != pod.container);
    }

    /// How often a method was called.
    pub(crate) fn called(&self, method: &str) -> usize {
        let shared = self.0.lock().unwrap();
        shared.called.get(method).copied().unwrap_or_default()
    }
}

async fn serve(stream: UnixStream, shared: Arc<Mutex<Shared>>) -> Result<(), h2::Error> {
    let mut connection = server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        if shared.lock().unwrap().mood == Mood::Closing {
            return Ok(());
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { answer(request, respond, &shared).await.ok() });
    }
    Ok(())
}

async fn answer(
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Mutex<Shared>,
) -> Result<(), h2::Error> {
    let mut asked = Vec::new();
    while let Some(piece) = request.body_mut().data().await {
        asked.extend_from_slice(&piece?);
    }
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let method = request
        .uri()
        .path()
        .strip_prefix("/runtime.v1.RuntimeService/");
    let method = method.unwrap().to_owned();
    let head = |code: Option<&str>| {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        if let Some(code) = code {
            headers.insert("grpc-status", code.parse().unwrap());
        }
        response
    };
    let mood = shared.lock().unwrap().mood;
    let reply = match mood {
        Mood::Ignorant => None,
        _ => reply(
            &method,
            asked.get(5..).unwrap(),
            &mut shared.lock().unwrap(),
        ),
    };
    let Some(reply) = reply else {
        // A status without anything before it comes in the head.
        let code = if mood == Mood::Ignorant { "12" } else { "5" };
        respond.send_response(head(Some(code)), true)?;
        return Ok(());
    };
    let mut body = respond.send_response(head(None), false)?;
    let length = u32::try_from(reply.len()).unwrap().to_be_bytes();
    let frame = [&[0], &length[..], &reply].concat();
    // In two pieces, as it may come.
    let (first, second) = frame.split_at(frame.len() / 2);
    body.send_data(Bytes::copy_from_slice(first), false)?;
    body.send_data(Bytes::copy_from_slice(second), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    body.send_trailers(trailers)
}

fn reply(method: &str, asked: &[u8], shared: &mut Shared) -> Option<Vec<u8>> {
    *shared.called.entry(method.to_owned()).or_default() += 1;
    match method {
        "ListPodSandbox" => {
            let items = shared.pods.iter().map(|pod| Sandbox {
                id: pod.container.clone(),
                metadata: Some(Metadata {
                    name: pod.name.clone(),
                    uid: format!("uid-{}", pod.name),
                    namespace: "shop".to_owned(),
                    attempt: 1,
                }),
                state: 0,
                created_at: 1_700_000_000_000_000_000,
                labels: [("tier".to_owned(), "back".to_owned())].into(),
                annotations: [("secret".to_owned(), "none of ours".to_owned())].into(),
                handler: "runc".to_owned(),
            });
            let items = items.collect();
            Some(List { items }.encode_to_vec())
        }
        "PodSandboxStatus" => {
            let Question { id } = Question::decode(asked).unwrap();
            let pod = shared.pods.iter().find(|pod| pod.container == id)?;
            let status = Status {
                id,
                state: 0,
                network: Some(Network { ip: pod.ip.clone() }),
            };
            let status = Some(status);
            Some(Reply { status }.encode_to_vec())
        }
        _ => panic!("it may only ask: {method}"),
    }
}
