//! Prometheus' text exposition (version 0.0.4) of collected OpenTelemetry metrics, named as Flink's reporter names them:
//! `flink_`, the logical scope and the metric joined by `_`. Used by the REST server's `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of all metrics, families and series in alphabetical order.
#[must_use]
pub fn text(metrics: &ResourceMetrics) -> String {
    let mut families: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for scope in metrics.scope_metrics() {
        let scope_name = name(scope.scope().name());
        for metric in scope.metrics() {
            let family = format!("flink_{scope_name}_{}", name(metric.name()));
            // Flink's help text.
            let help = format!("{} (scope: {scope_name})", metric.name());
            let (_, series) = families.entry(family.clone()).or_insert((help, Vec::new()));
            for (attributes, value) in points(metric.data()) {
                series.push(format!("{family}{} {value}", labels(&attributes)));
            }
        }
    }
    let mut text = String::new();
    for (family, (help, mut series)) in families {
        // The SDK keeps points in a hash map.
        series.sort();
        // Flink's reporter declares counters as gauges too, because they start anew with every attempt.
        let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} gauge");
        for line in series {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// Only `a-z`, `A-Z`, `0-9`, `:` and `_` may stand in a name.
fn name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' || c == '_' { c } else { '_' }).collect()
}

fn labels(attributes: &[&KeyValue]) -> String {
    let mut labels: Vec<(String, String)> =
        attributes.iter().map(|attribute| (name(attribute.key.as_str()), escape(&attribute.value.as_str()))).collect();
    labels.sort();
    let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Attributes and value of every gauge and sum; histograms are not used.
fn points(data: &AggregatedMetrics) -> Vec<(Vec<&KeyValue>, String)> {
    match data {
        AggregatedMetrics::F64(data) => numbers(data, |value: f64| format!("{value:?}")),
        AggregatedMetrics::U64(data) => numbers(data, |value: u64| value.to_string()),
        AggregatedMetrics::I64(data) => numbers(data, |value: i64| value.to_string()),
    }
}

fn numbers<T: Copy>(data: &MetricData<T>, write: impl Fn(T) -> String) -> Vec<(Vec<&KeyValue>, String)> {
    match data {
        MetricData::Gauge(gauge) => {
            gauge.data_points().map(|point| (point.attributes().collect(), write(point.value()))).collect()
        }
        MetricData::Sum(sum) => {
            sum.data_points().map(|point| (point.attributes().collect(), write(point.value()))).collect()
        }
        MetricData::Histogram(_) | MetricData::ExponentialHistogram(_) => Vec::new(),
    }
}
