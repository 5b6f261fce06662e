//! Asks memcached for its figures on a connection of its own.

use std::io;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};

use crate::metrics::{MemcachedStats, StatLines};

/// Sends the four questions as one pipeline and reads the four answers. The caller bounds the time.
///
/// # Errors
/// The connection broke, or what came is not an answer to `stats`.
pub async fn read_stats(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<MemcachedStats> {
    let (answers, mut questions) = tokio::io::split(stream);
    questions.write_all(b"stats\r\nstats settings\r\nstats slabs\r\nstats items\r\n").await?;
    questions.flush().await?;
    let mut answers = BufReader::new(answers.take(ANSWERS_BYTES_MAX));
    Ok(MemcachedStats {
        general: answer(&mut answers).await?,
        settings: answer(&mut answers).await?,
        slabs: answer(&mut answers).await?,
        items: answer(&mut answers).await?,
    })
}

/// `STAT name value` lines up to `END`.
async fn answer(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<StatLines> {
    let mut lines = StatLines::new();
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut words = line.trim_end().splitn(3, ' ');
        match (words.next(), words.next()) {
            (Some("STAT"), Some(name)) => {
                lines.push((name.to_owned(), words.next().unwrap_or_default().to_owned()))
            }
            (Some("END"), None) => return Ok(lines),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "memcached answered `stats` with something else",
                ));
            }
        }
    }
}

/// All slab classes of memcached fill some ten kilobytes.
const ANSWERS_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(answer: &'static str) -> io::Result<MemcachedStats> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let answering = async move {
            let mut question = [0; 64];
            let count = theirs.read(&mut question).await.unwrap();
            assert!(question[..count].starts_with(b"stats\r\nstats settings\r\n"));
            theirs.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(read_stats(ours), answering).0
    }

    #[tokio::test]
    async fn four_answers_are_told_apart() {
        let stats =
            read("STAT pid 7\r\nSTAT inter a b\r\nEND\r\nSTAT maxconns 5\r\nEND\r\nSTAT x\r\nEND\r\nEND\r\n")
                .await;
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = MemcachedStats {
            general: vec![pair("pid", "7"), pair("inter", "a b")],
            settings: vec![pair("maxconns", "5")],
            slabs: vec![pair("x", "")],
            items: Vec::new(),
        };
        assert_eq!(stats.unwrap(), expected);
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        assert_eq!(read("STAT a 1\r\n").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(
            read("CLIENT_ERROR unauthenticated\r\n").await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
