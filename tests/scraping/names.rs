//! A name that stops resolving.
//!
//! The names are those of a file of hosts of the test's own: this program runs itself once more, in a mount namespace in which that file
//! is `/etc/hosts`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::exporter::Exporter;
use super::faults::{Raw, page};
use super::{Scraper, job, job_at, until};

const HOSTS: &str = "GPU_METRICS_ADAPTER_TEST_HOSTS";
const NAME: &str = "exporter.test";

#[test]
fn a_name_that_stops_resolving_is_told_of_its_target_alone_and_taken_up_again() {
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount"]).args(arguments);
        command.stdin(Stdio::null());
        command
    };
    let may = unshare(&["true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no mount namespace of one's own may be made here (unshare)");
        return;
    }
    let file = HostsFile::new();
    let script = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
    let program = std::env::current_exe().unwrap();
    let output = unshare(&["sh", "-c", script])
        .arg(&file.0)
        .arg(program)
        .args(["--exact", "names::inside", "--ignored", "--nocapture"])
        .env(HOSTS, &file.0)
        .output()
        .unwrap();
    let said = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy);
    assert!(output.status.success(), "{said:?}");
    assert!(said[0].contains("1 passed"), "{said:?}");
}

/// A file in place of `/etc/hosts`; it goes with the value.
struct HostsFile(PathBuf);

impl HostsFile {
    fn new() -> Self {
        let name = format!("scraping-hosts-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "").unwrap();
        Self(path)
    }
}

impl Drop for HostsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
#[ignore = "run by the test above, where /etc/hosts is its own"]
async fn inside() {
    let Some(hosts) = std::env::var_os(HOSTS) else {
        return;
    };
    let hosts = Path::new(&hosts);
    // Written in place: it is this very file that is mounted.
    fs::write(hosts, format!("127.0.0.1 {NAME}\n")).unwrap();
    let closed = page(b"named 1\n", "Connection: close\r\n");
    let named = Raw::answering(closed, async |stream| stream).await;
    let (_, port) = named.address.split_once(':').unwrap();
    let healthy = Exporter::page("healthy 1\n").await;
    let address = format!("{NAME}:{port}");
    let settings = "scrape_interval: 300ms, scrape_timeout: 300ms";
    let jobs = [
        job_at("named", &address, settings),
        job("healthy", &healthy, ""),
    ];
    let scraper = Scraper::start(&jobs.concat());
    let down = |job: &str| {
        let targets = scraper.store.targets();
        let of_job = targets.into_iter().find(|it| it.info.job == job)?;
        of_job.health.down.map(|down| down.reason)
    };
    until("it is scraped by its name", || scraper.value("named")).await;
    assert_eq!(down("named"), None);

    fs::write(hosts, "\n").unwrap();
    let reason = until("its name is gone", || down("named")).await;
    // A name server that says so, or none that says anything in time.
    let told = format!("the name {NAME} ");
    assert!(reason.contains(&told), "{reason}");
    let before = healthy.requests();
    until("the other is scraped as before", || {
        (healthy.requests() >= before + 8).then_some(())
    })
    .await;
    assert_eq!(down("healthy"), None);
    assert_eq!(
        scraper.value("named"),
        Some(1.0),
        "neither ended nor renewed"
    );

    // Where the name server says nothing, the last lookup has to end first.
    fs::write(hosts, format!("127.0.0.1 {NAME}\n")).unwrap();
    tokio::time::timeout(Duration::from_secs(60), async {
        while down("named").is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("its name is back");
    scraper.stop().await;
}
