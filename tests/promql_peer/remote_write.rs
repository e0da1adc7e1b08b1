//! Series as requests of Prometheus's remote write protocol (version 1): the one door by which marks of an ended series
//! come in at times of our choosing.

use gpu_metrics_adapter::model::labels::Labels;
use prost::Message;

use crate::data::Series;

/// Milliseconds of data in one request. Prometheus refuses what is an hour behind its newest sample.
const SLICE: i64 = 600_000;

/// Bodies to be posted in this order: `WriteRequest`s, each in a snappy block.
pub(crate) fn requests(all: &[Series]) -> Vec<Vec<u8>> {
    let time = |sample: &gpu_metrics_adapter::model::sample::Sample| sample.timestamp.as_millis();
    let times = || all.iter().flat_map(|series| &series.samples).map(time);
    let (first, last) = (
        times().min().expect("samples"),
        times().max().expect("samples"),
    );
    let mut bodies = Vec::new();
    for start in (first..=last).step_by(usize::try_from(SLICE).expect("a length")) {
        let part = |series: &Series| {
            let samples: Vec<Sample> = series
                .samples
                .iter()
                .filter(|sample| (start..start + SLICE).contains(&time(sample)))
                .map(|sample| Sample {
                    value: sample.value.to_bits(),
                    timestamp: time(sample),
                })
                .collect();
            (!samples.is_empty()).then(|| TimeSeries {
                labels: labels(&series.labels),
                samples,
            })
        };
        let request = WriteRequest {
            timeseries: all.iter().filter_map(part).collect(),
        };
        bodies.push(snappy_block(&request.encode_to_vec()));
    }
    bodies
}

fn labels(labels: &Labels) -> Vec<Label> {
    let label = |(name, value): (&str, &str)| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    labels.iter().map(label).collect()
}

/// The block format with literals only, which any reader must take: the length, then pieces of up to 64 KiB.
fn snappy_block(bytes: &[u8]) -> Vec<u8> {
    /// The tag of a literal whose length less one follows in two bytes.
    const LITERAL_16: u8 = 61 << 2;
    let mut block = Vec::with_capacity(bytes.len() + bytes.len() / 1_000 + 16);
    prost::encode_length_delimiter(bytes.len(), &mut block).expect("room in a vector");
    for piece in bytes.chunks(1 << 16) {
        let length = u16::try_from(piece.len() - 1).expect("a short piece");
        block.push(LITERAL_16);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(piece);
    }
    block
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// The bits of a double: as a number, -0 would be left out like 0.
    #[prost(fixed64, tag = "1")]
    value: u64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}
