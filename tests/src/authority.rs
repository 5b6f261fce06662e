//! A CA of a test, and certificates signed by it, both made by `openssl` as people make them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, iter};

use crate::process::Folder;

/// Whoever believes it believes what it signs.
#[derive(Debug)]
pub struct Authority {
    name: String,
    folder: Folder,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug)]
pub struct Signed {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Its certificate is in the folder, as `<name>.pem`.
    pub fn new(name: &str, folder: &Folder) -> Self {
        let authority = Self { name: name.to_owned(), folder: folder.clone() };
        let (ca, key) = (authority.ca(), authority.file(name, "key"));
        let subject = format!("/CN={name}");
        let mut make = openssl(&["req", "-x509", "-days", "3650", "-subj", &subject, "-addext"]);
        make.args(["keyUsage=critical,keyCertSign"]).args(NEW_KEY).arg(key).arg("-out").arg(ca);
        run(make);
        authority
    }

    /// The file of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.file(&self.name, "pem")
    }

    /// A certificate for these names, as `DNS:localhost` or `IP:127.0.0.1`, in `<file>.pem` and `<file>.key`; what was there is
    /// overwritten. It holds a year.
    pub fn sign(&self, file: &str, names: &str) -> Signed {
        self.sign_for(file, names, 365)
    }

    /// The same that holds so many days; less than none: it has ended already.
    pub fn sign_for(&self, file: &str, names: &str, days: i32) -> Signed {
        let signed = Signed { certificate: self.file(file, "pem"), key: self.file(file, "key") };
        let (request, extensions) = (self.file(file, "csr"), self.file(file, "extensions"));
        fs::write(&extensions, format!("basicConstraints=critical,CA:FALSE\nsubjectAltName={names}\n"))
            .unwrap();
        let mut ask = openssl(&["req", "-subj", &format!("/CN={file}")]);
        ask.args(NEW_KEY).arg(&signed.key).arg("-out").arg(&request);
        run(ask);
        let mut sign = openssl(&["x509", "-req", "-CAcreateserial", "-days", &days.to_string()]);
        for (flag, file) in iter::zip(
            ["-in", "-CA", "-CAkey", "-extfile", "-out"],
            [&request, &self.ca(), &self.file(&self.name, "key"), &extensions, &signed.certificate],
        ) {
            sign.arg(flag).arg(file);
        }
        run(sign);
        signed
    }

    fn file(&self, name: &str, ending: &str) -> PathBuf {
        let folder: &Path = self.folder.path();
        folder.join(format!("{name}.{ending}"))
    }
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(mut command: Command) {
    let made = command.output().expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

const NEW_KEY: [&str; 6] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"];
