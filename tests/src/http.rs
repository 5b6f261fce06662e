//! Just enough HTTP to read the admin address and to speak with control.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// `GET path`: status and body.
pub fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    send(address, "GET", path, &[], "")
}

/// Any request: status and body.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    // Control waits five seconds for its database, and for whoever asked before.
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no end of head"))?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("no status"))?, body.to_owned()))
}

/// The sum of all samples of `name` in a Prometheus text whose labels contain every one of `labels` (`key="value"`).
pub fn metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (shown, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        labels.iter().all(|label| shown.contains(label)).then(|| value.trim().parse::<f64>().ok()).flatten()
    });
    samples.sum()
}
