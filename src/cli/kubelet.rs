//! metrics-server's flags about kubelets (`cmd/metrics-server/app/options/kubelet_client.go`), by their names: each sets a key of
//! `scrape.kubelet`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::scrape::KubeletOptions;

use super::serve::duration;

#[derive(Clone, Debug, Args)]
pub(super) struct KubeletFlags {
    /// How often kubelets are scraped: scrape_interval of scrape.kubelet.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    metric_resolution: Option<Duration>,
    /// How long one scrape of a kubelet may take.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    kubelet_request_timeout: Option<Duration>,
    /// Which of a node's addresses is taken, the best first.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    kubelet_preferred_address_types: Vec<String>,
    /// The port of every kubelet. Default: the one that its node tells.
    #[arg(long, value_name = "PORT")]
    kubelet_port: Option<u16>,
    /// Take the port that the node tells, as is done anyway where --kubelet-port is not given.
    #[arg(long)]
    kubelet_use_node_status_port: bool,
    /// The authorities that vouch for kubelets. Default: the cluster's.
    #[arg(long, value_name = "FILE")]
    kubelet_certificate_authority: Option<PathBuf>,
    /// A certificate to show to kubelets, besides the token.
    #[arg(long, value_name = "FILE", requires = "kubelet_client_key")]
    kubelet_client_certificate: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(long, value_name = "FILE", requires = "kubelet_client_certificate")]
    kubelet_client_key: Option<PathBuf>,
    /// Believe any certificate of a kubelet. Whoever sits between can then answer for it, and reads the token.
    #[arg(long)]
    kubelet_insecure_tls: bool,
    /// A label selector: other nodes are not scraped.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    node_selector: Option<String>,
}

impl KubeletFlags {
    /// Writes what was given over what the file says.
    pub(super) fn apply(&self, options: &mut KubeletOptions) {
        fn set<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        set(&mut options.scrape_interval, &self.metric_resolution);
        set(&mut options.scrape_timeout, &self.kubelet_request_timeout);
        set(&mut options.port, &self.kubelet_port);
        set(&mut options.node_selector, &self.node_selector);
        let tls = &mut options.tls_config;
        set(&mut tls.ca_file, &self.kubelet_certificate_authority);
        set(&mut tls.cert_file, &self.kubelet_client_certificate);
        set(&mut tls.key_file, &self.kubelet_client_key);
        tls.insecure_skip_verify |= self.kubelet_insecure_tls;
        if self.kubelet_use_node_status_port {
            options.port = None;
        }
        if !self.kubelet_preferred_address_types.is_empty() {
            let types = &self.kubelet_preferred_address_types;
            options.preferred_address_types.clone_from(types);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::scrape::ScrapeConfig;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: KubeletFlags,
    }

    /// The flags of metrics-server's own manifests, and the others of theirs.
    #[test]
    fn the_flags_of_metrics_server_set_the_keys_of_the_file() {
        let mut options = ScrapeConfig::default().kubelet;
        options.port = Some(1);
        let line = "x --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname --kubelet-use-node-status-port --metric-resolution=15s --kubelet-request-timeout=5s --kubelet-certificate-authority=/ca -l gpu=true";
        let line = Line::parse_from(line.split(' '));
        line.flags.apply(&mut options);
        assert_eq!(
            options.preferred_address_types,
            ["InternalIP", "ExternalIP", "Hostname"]
        );
        assert_eq!(options.port, None);
        assert_eq!(options.scrape_interval, Some(Duration::from_secs(15)));
        assert_eq!(options.scrape_timeout, Some(Duration::from_secs(5)));
        assert_eq!(options.tls_config.ca_file, Some(PathBuf::from("/ca")));
        assert_eq!(options.node_selector.as_deref(), Some("gpu=true"));
        assert!(!options.tls_config.insecure_skip_verify);
        let line = "x --kubelet-insecure-tls --kubelet-port=10255 --kubelet-client-certificate=/c --kubelet-client-key=/k";
        Line::parse_from(line.split(' ')).flags.apply(&mut options);
        assert!(options.tls_config.insecure_skip_verify);
        assert_eq!(options.port, Some(10255));
        assert_eq!(options.tls_config.key_file, Some(PathBuf::from("/k")));
        let alone = "x --kubelet-client-certificate=/c";
        assert!(Line::try_parse_from(alone.split(' ')).is_err());
    }
}
