//! What the exporter of a simulated node writes: a page in the form of dcgm-exporter, with the per-process metrics of
//! Alibaba's ACK exporter.
//!
//! It keeps the habits that readers trip over: blocks in another order each time, no labels of a pod on an idle GPU, other
//! label names for the same pod in the two families, no timestamps.

use std::fmt::Write;

use super::load::mixed;
use super::pods::{CONTAINER, NAMESPACE, Place, Pod};

const MODEL: &str = "NVIDIA H100 80GB HBM3";
const DRIVER: &str = "570.124.06";
/// Framebuffer of one GPU, in MiB.
const FRAMEBUFFER: u32 = 81_079;
/// What a predictor takes of it as soon as it serves, in MiB: nearly all, whatever the load.
const FRAMEBUFFER_TAKEN: u32 = 76_512;

/// The name of a node.
pub fn node_name(node: usize) -> String {
    format!("gpu-node-{node}")
}

/// The page of `node` while `pods` are as they are. The order of its blocks follows from `scrape`, the number of the scrape.
pub fn page(node: usize, gpus: usize, pods: &[Pod], scrape: u64) -> String {
    let gpus: Vec<Gpu<'_>> = (0..gpus)
        .map(|gpu| Gpu {
            place: Place { node, gpu },
            pod: pods
                .iter()
                .find(|pod| pod.place == Some(Place { node, gpu })),
        })
        .collect();
    let mut blocks = [device_block(&gpus), process_block(&gpus), mode_block()];
    for last in (1..blocks.len()).rev() {
        let drawn = mixed(scrape.wrapping_mul(31) ^ last as u64) % (last as u64 + 1);
        blocks.swap(last, usize::try_from(drawn).unwrap_or(last));
    }
    blocks.concat()
}

struct Gpu<'a> {
    place: Place,
    pod: Option<&'a Pod>,
}

impl Gpu<'_> {
    fn utilization(&self) -> f64 {
        self.pod.map_or(0.0, |pod| pod.utilization)
    }

    fn framebuffer_used(&self) -> u32 {
        match self.pod {
            Some(pod) if pod.ready => FRAMEBUFFER_TAKEN,
            _ => 0,
        }
    }

    fn uuid(&self) -> String {
        let bits = mixed(self.place.node as u64 * 64 + self.place.gpu as u64);
        let (a, b, c) = (bits >> 32, (bits >> 16) & 0xffff, bits & 0xffff);
        format!(
            "GPU-{a:08x}-{b:04x}-4{:03x}-8{:03x}-{:012x}",
            c & 0xfff,
            c >> 4,
            bits >> 16
        )
    }

    /// dcgm-exporter's labels, in its order; the last three only where a pod has the GPU.
    fn device_labels(&self) -> String {
        let gpu = self.place.gpu;
        let mut labels = format!(
            "gpu=\"{gpu}\",UUID=\"{}\",pci_bus_id=\"00000000:{:02X}:00.0\",device=\"nvidia{gpu}\",modelName=\"{MODEL}\",\
             Hostname=\"{}\",DCGM_FI_DRIVER_VERSION=\"{DRIVER}\"",
            self.uuid(),
            0x18 + 0x11 * gpu,
            node_name(self.place.node),
        );
        if let Some(pod) = self.pod {
            let name = &pod.name;
            let _ = write!(
                labels,
                ",container=\"{CONTAINER}\",namespace=\"{NAMESPACE}\",pod=\"{name}\""
            );
        }
        labels
    }

    /// The ACK exporter's labels of the process on the GPU; `None` while there is none.
    fn process_labels(&self) -> Option<String> {
        let pod = self.pod.filter(|pod| pod.ready)?;
        let Place { node, gpu } = self.place;
        Some(format!(
            "AllocateMode=\"exclusive\",ContainerName=\"{CONTAINER}\",NamespaceName=\"{NAMESPACE}\",NodeName=\"{}\",\
             NodePoolId=\"gpu\",PodName=\"{}\",PodSource=\"ack\",ProcessId=\"{}\",ProcessName=\"python3\",ProcessType=\"C\",\
             UUID=\"{}\",device=\"nvidia{gpu}\",gpu=\"{gpu}\",modelName=\"{MODEL}\"",
            node_name(node),
            pod.name,
            40_000 + 100 * node + gpu,
            self.uuid(),
        ))
    }
}

fn family(out: &mut String, name: &str, help: &str, lines: impl Iterator<Item = (String, String)>) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in lines {
        let _ = writeln!(out, "{name}{{{labels}}} {value}");
    }
}

fn device_block(gpus: &[Gpu<'_>]) -> String {
    type Reading = fn(&Gpu<'_>) -> String;
    let families: [(&str, &str, Reading); 4] = [
        ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", |gpu| {
            format!("{:.0}", gpu.utilization())
        }),
        (
            "DCGM_FI_DEV_FB_FREE",
            "Framebuffer memory free (in MiB).",
            |gpu| (FRAMEBUFFER - gpu.framebuffer_used()).to_string(),
        ),
        (
            "DCGM_FI_DEV_FB_USED",
            "Framebuffer memory used (in MiB).",
            |gpu| gpu.framebuffer_used().to_string(),
        ),
        (
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
            "Ratio of time the graphics engine is active.",
            |gpu| format!("{:.6}", gpu.utilization() / 100.0),
        ),
    ];
    let mut out = String::new();
    for (name, help, reading) in families {
        let lines = gpus.iter().map(|gpu| (gpu.device_labels(), reading(gpu)));
        family(&mut out, name, help, lines);
    }
    out
}

fn process_block(gpus: &[Gpu<'_>]) -> String {
    let mut out = String::new();
    family(
        &mut out,
        "DCGM_CUSTOM_PROCESS_SM_UTIL",
        "SM utilization of the process (in %).",
        gpus.iter()
            .filter_map(|gpu| Some((gpu.process_labels()?, format!("{:.0}", gpu.utilization())))),
    );
    family(
        &mut out,
        "DCGM_CUSTOM_PROCESS_MEM_USED",
        "Memory used by the process (in MiB).",
        gpus.iter()
            .filter_map(|gpu| Some((gpu.process_labels()?, gpu.framebuffer_used().to_string()))),
    );
    out
}

fn mode_block() -> String {
    let name = "DCGM_CUSTOM_ALLOCATE_MODE";
    format!(
        "# HELP {name} GPU allocate mode of node, None:0, Exclusive:1, Share:2\n# TYPE {name} gauge\n{name} 1\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use prometheus_parse::{Scrape, Value};

    use super::super::pods::{Pods, STARTUP};
    use super::*;

    /// One pod on GPU 0 of node 0 that serves, one on GPU 0 of node 1 that starts.
    fn pods() -> Vec<Pod> {
        let pods = Pods::new(2, 2);
        pods.scale(1, Duration::ZERO);
        pods.advance(STARTUP, 12.0);
        pods.scale(2, STARTUP);
        pods.now()
    }

    fn read(page: &str) -> Scrape {
        Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).expect("a page")
    }

    /// The values of a metric with the labels `pod`, or `PodName`, and `gpu`.
    fn values(page: &str, metric: &str) -> Vec<(Option<String>, String, f64)> {
        let samples = read(page).samples.into_iter();
        samples
            .filter(|sample| sample.metric == metric)
            .map(|sample| {
                let Value::Gauge(value) = sample.value else {
                    panic!("{metric} is a gauge");
                };
                let pod = sample.labels.get("pod").or(sample.labels.get("PodName"));
                let gpu = sample.labels.get("gpu").expect("a gpu");
                (pod.map(str::to_owned), gpu.to_owned(), value)
            })
            .collect()
    }

    #[test]
    fn a_busy_gpu_names_its_pod_and_an_idle_one_none() {
        let pods = pods();
        let page = page(0, 2, &pods, 0);
        let (pod, busy) = (Some(pods[0].name.clone()), pods[0].utilization);
        assert!((46.0..=50.0).contains(&busy), "{busy}");
        assert_eq!(
            values(&page, "DCGM_CUSTOM_PROCESS_SM_UTIL"),
            [(pod.clone(), "0".to_owned(), busy)]
        );
        assert_eq!(
            values(&page, "DCGM_FI_DEV_GPU_UTIL"),
            [
                (pod.clone(), "0".to_owned(), busy),
                (None, "1".to_owned(), 0.0)
            ]
        );
        assert_eq!(
            values(&page, "DCGM_FI_DEV_FB_USED"),
            [(pod, "0".to_owned(), 76_512.0), (None, "1".to_owned(), 0.0)]
        );
    }

    #[test]
    fn a_starting_pod_has_a_gpu_and_no_process_on_it() {
        let pods = pods();
        let page = page(1, 2, &pods, 0);
        let pod = Some(pods[1].name.clone());
        assert_eq!(values(&page, "DCGM_CUSTOM_PROCESS_SM_UTIL"), []);
        assert_eq!(
            values(&page, "DCGM_FI_DEV_GPU_UTIL")[0],
            (pod, "0".to_owned(), 0.0)
        );
    }

    #[test]
    fn lines_are_those_of_the_real_exporters() {
        let pods = pods();
        let page = page(0, 1, &pods, 0);
        let name = &pods[0].name;
        let uuid = page.split("UUID=\"").nth(1).expect("a UUID");
        let uuid = uuid.split('"').next().expect("its end");
        let value = pods[0].utilization;
        let device = format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"{uuid}\",pci_bus_id=\"00000000:18:00.0\",device=\"nvidia0\",modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"gpu-node-0\",DCGM_FI_DRIVER_VERSION=\"570.124.06\",container=\"kserve-container\",namespace=\"default\",pod=\"{name}\"}} {value}\n"
        );
        let process = format!(
            "DCGM_CUSTOM_PROCESS_SM_UTIL{{AllocateMode=\"exclusive\",ContainerName=\"kserve-container\",NamespaceName=\"default\",NodeName=\"gpu-node-0\",NodePoolId=\"gpu\",PodName=\"{name}\",PodSource=\"ack\",ProcessId=\"40000\",ProcessName=\"python3\",ProcessType=\"C\",UUID=\"{uuid}\",device=\"nvidia0\",gpu=\"0\",modelName=\"NVIDIA H100 80GB HBM3\"}} {value}\n"
        );
        assert!(page.contains(&device), "{device}\nis not in\n{page}");
        assert!(page.contains(&process), "{process}\nis not in\n{page}");
    }

    #[test]
    fn blocks_come_in_every_order_and_lines_are_always_the_same() {
        let pods = pods();
        let pages: Vec<String> = (0..64).map(|scrape| page(0, 2, &pods, scrape)).collect();
        let distinct: BTreeSet<&String> = pages.iter().collect();
        assert_eq!(distinct.len(), 6);
        let lines = |page: &str| page.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert!(pages.iter().all(|page| lines(page) == lines(&pages[0])));
    }
}
