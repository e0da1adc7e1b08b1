//! Puts a changed configuration file to work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::model::time::Timestamp;
use crate::telemetry::Reloads;

use super::Core;

/// How often the file is looked at. A mounted ConfigMap is a chain of links that are swapped, which only reading sees
/// through; the kubelet itself takes a minute to swap them.
const LOOK: Duration = Duration::from_secs(2);

/// The largest file; a ConfigMap has at most 1 MiB.
const MOST_BYTES: u64 = 4 << 20;

/// A configuration file and what the command line says besides.
#[derive(Clone)]
pub struct ConfigFile {
    /// The file.
    pub path: PathBuf,
    /// Puts in what flags say, which counts more.
    pub flags: Arc<dyn Fn(&mut Config) + Send + Sync>,
}

impl std::fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

/// Follows one file.
pub(super) struct Reload {
    file: ConfigFile,
    core: Arc<Core>,
    reloads: Reloads,
    /// The file as it was looked at last, good or not; the first time it is taken for what the process started with.
    seen: Option<Result<String, String>>,
    config: Config,
}

impl Reload {
    /// `config` is what `core` was built from: what stood in the file at the start.
    pub(super) fn new(file: ConfigFile, config: Config, core: Arc<Core>, reloads: Reloads) -> Self {
        Self {
            file,
            core,
            reloads,
            seen: None,
            config,
        }
    }

    /// Looks at the file until `cancel`.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let text = self.read().await;
        if self.seen.as_ref() == Some(&text) {
            return;
        }
        let result = match &text {
            Ok(text) => self.put_to_work(text).await,
            Err(reason) => Err(reason.clone()),
        };
        self.seen = Some(text);
        let file = self.file.path.display();
        match result {
            Ok(false) => {}
            Ok(true) => {
                info!(%file, "configuration changed; the new one is in use");
                self.reloads.succeeded(Timestamp::now());
            }
            Err(reason) => {
                error!(%file, reason, "configuration changed and is not usable; the one before stays in use");
                self.reloads.failed(Timestamp::now(), reason);
            }
        }
    }

    /// Whether this is another configuration than the one in use, and then it is in use.
    async fn put_to_work(&mut self, text: &str) -> Result<bool, String> {
        let mut config = Config::parse(text)?;
        (self.file.flags)(&mut config);
        let complained = self.reloads.refused().is_some();
        if config == self.config {
            // The file is as it was before a change for the worse.
            return Ok(complained);
        }
        let applied = self.core.apply(&config, Timestamp::now()).await;
        applied.map_err(|error| error.to_string())?;
        let settled = |config: &Config| {
            let resources = (config.resource_metrics, config.resource_rules.clone());
            let limits = config.scrape.limits.clone();
            let others = (config.schedules.clone(), config.external_fallback.clone());
            (limits, resources, others)
        };
        if settled(&config) != settled(&self.config) {
            warn!(
                "of scrape.limits, resourceMetrics, resourceRules, schedules and externalFallback something changed; the next start takes it up"
            );
        }
        self.config = config;
        Ok(true)
    }

    async fn read(&self) -> Result<String, String> {
        let read = async {
            let file = tokio::fs::File::open(&self.file.path).await?;
            let mut text = String::new();
            file.take(MOST_BYTES + 1).read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        match read.await {
            Ok(text) if text.len() as u64 > MOST_BYTES => {
                Err(format!("it is larger than {MOST_BYTES} bytes"))
            }
            Ok(text) => Ok(text),
            Err(error) => Err(format!("it cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::StaticMapper;
    use crate::model::objects::NoObjects;

    struct Scene {
        reload: Reload,
        core: Arc<Core>,
        reloads: Reloads,
    }

    impl Scene {
        fn new(name: &str, text: &str) -> Self {
            let file = format!("gpu-metrics-adapter-{}-{name}.yaml", std::process::id());
            let path = std::env::temp_dir().join(file);
            std::fs::write(&path, text).expect("a temporary file");
            let config = Config::parse(text).expect("valid");
            let core = Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper));
            let core = Arc::new(core.expect("valid"));
            let reloads = Reloads::new(Timestamp::from_millis(1));
            let flags = Arc::new(|_: &mut Config| {});
            let file = ConfigFile { path, flags };
            let reload = Reload::new(file, config, Arc::clone(&core), reloads.clone());
            Self {
                reload,
                core,
                reloads,
            }
        }

        async fn write(&mut self, text: &str) {
            std::fs::write(&self.reload.file.path, text).expect("a temporary file");
            self.reload.look().await;
        }

        fn rules(&self) -> Vec<String> {
            let rules = self.core.provider.check_rules();
            rules.into_iter().map(|(id, _)| id.to_string()).collect()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.reload.file.path);
        }
    }

    const NONE: &str = "scrape: {presets: []}\n";
    const ONE: &str = "scrape: {presets: []}\nrules: [{seriesQuery: x, metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'}]\n";

    #[tokio::test]
    async fn a_good_file_is_put_to_work_and_a_bad_one_changes_nothing() {
        let mut scene = Scene::new("reload", NONE);
        scene.reload.look().await;
        assert!(scene.rules().is_empty());
        scene.write(ONE).await;
        assert_eq!(scene.rules(), ["rules[0]"]);
        assert_eq!(scene.reloads.refused(), None);
        for (text, reason) in [
            ("rules: [", "line 1"),
            (
                "scrape: {presets: []}\nrules: [{seriesQuery: x, metricsQuery: '<<.Nope>>'}]\n",
                "rules[0].metricsQuery",
            ),
        ] {
            scene.write(text).await;
            assert_eq!(scene.rules(), ["rules[0]"], "{text}");
            let (_, complaint) = scene.reloads.refused().expect("a refusal");
            assert!(complaint.contains(reason), "{complaint}");
        }
        scene.write(ONE).await;
        assert_eq!(scene.reloads.refused(), None, "as before the bad ones");
        std::fs::remove_file(&scene.reload.file.path).expect("it was there");
        scene.reload.look().await;
        let (_, complaint) = scene.reloads.refused().expect("a refusal");
        assert!(complaint.contains("cannot be read"), "{complaint}");
        assert_eq!(scene.rules(), ["rules[0]"]);
        scene.write(NONE).await;
        assert!(scene.rules().is_empty());
        assert_eq!(scene.reloads.refused(), None);
    }
}
