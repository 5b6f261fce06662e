//! Wires between sites that can be cut, and on which everything can come to a stop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a network between two sites does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Net {
    Open,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Connections stay, and nothing passes.
    Stalled,
}

/// A wire that can be cut.
pub(crate) struct Relay {
    pub(crate) addr: String,
    state: watch::Sender<Net>,
}

impl Relay {
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (state, watched) = watch::channel(Net::Open);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *watched.borrow() == Net::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pump(near_read, far_write, watched.clone()));
                tokio::spawn(pump(far_read, near_write, watched.clone()));
            }
        });
        Self { addr, state }
    }

    pub(crate) fn set(&self, net: Net) {
        self.state.send_replace(net);
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<Net>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = *state.borrow_and_update();
        match now {
            Net::Cut => return,
            Net::Stalled => {
                if state.changed().await.is_err() {
                    return;
                }
            }
            Net::Open => tokio::select! {
                read = from.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => if to.write_all(&buffer[..read]).await.is_err() { return },
                },
                changed = state.changed() => if changed.is_err() { return },
            },
        }
    }
}
