//! `certs`: certificates for development.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::model::time::Timestamp;
use crate::server::pki::Authority;

/// How long development certificates live.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

#[derive(Debug, Args)]
pub(super) struct Certs {
    /// The folder to write ca.crt, tls.crt and tls.key to. It is made if it is not there; files in it are not overwritten.
    #[arg(long, default_value = "certs")]
    out: PathBuf,
    /// A name or address the certificate is for; may be repeated.
    #[arg(long = "host", default_values = ["localhost", "127.0.0.1"])]
    hosts: Vec<String>,
}

impl Certs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let authority = Authority::generate("gpu-metrics-adapter-development-ca", LIFE, now)?;
        let pair = authority.serving(&self.hosts, LIFE, now)?;
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        write(&self.out.join("ca.crt"), authority.certificate(), 0o644)?;
        write(&self.out.join("tls.crt"), &pair.certificate, 0o644)?;
        write(&self.out.join("tls.key"), &pair.key, 0o600)?;
        anstream::println!(
            "wrote ca.crt, tls.crt and tls.key to {} for {}; valid for 90 days. The CA's key was not kept.",
            self.out.display(),
            self.hosts.join(", ")
        );
        Ok(())
    }
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
