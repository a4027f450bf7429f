//! Metrics of memory: what each class holds, and what the process has.

use crate::{broker::Broker, partition::ProducerMemory};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};
use std::{fmt, sync::Arc};
use thalweg_runtime::Budget;

/// Registers the metrics of `broker`'s memory.
pub fn register(registry: &mut Registry, broker: &Arc<Broker>) {
    let budgets = &broker.budgets;
    let classes = [
        &budgets.produce,
        &budgets.requests,
        &budgets.receiving,
        &budgets.responses,
        &budgets.block_reads,
        &budgets.read_ahead,
        &budgets.unpacking,
    ];
    let producers = broker.logs.producer_memory().clone();
    registry.register_collector(Box::new(Memory { budgets: classes.map(Budget::clone).into(), producers }));
}

struct Memory {
    budgets: Vec<Budget>,
    producers: ProducerMemory,
}

/// A class of memory, as it is now.
struct Class {
    name: &'static str,
    used: usize,
    limit: usize,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.budgets.iter().map(Budget::name)).finish()
    }
}

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_classes(
            &mut encoder,
            "thalweg_memory_used",
            "Bytes charged, by class of memory",
            |class| class.used,
        )?;
        self.encode_classes(
            &mut encoder,
            "thalweg_memory_limit",
            "Most bytes, by class of memory",
            |class| class.limit,
        )?;
        let allocated =
            tikv_jemalloc_ctl::epoch::advance().and_then(|_| tikv_jemalloc_ctl::stats::resident::read());
        if let Ok(resident) = allocated {
            let gauge = ConstGauge::new(i64::try_from(resident).unwrap_or(i64::MAX));
            let help = "Bytes that the allocator holds of the system";
            let metric = encoder.encode_descriptor(
                "thalweg_memory_resident",
                help,
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

impl Memory {
    fn encode_classes(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Class) -> usize,
    ) -> fmt::Result {
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), kind)?;
        for class in self.classes() {
            let gauge = ConstGauge::new(i64::try_from(value(&class)).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("class", class.name)])?)?;
        }
        Ok(())
    }

    fn classes(&self) -> impl Iterator<Item = Class> {
        let producers =
            Class { name: "producer_states", used: self.producers.used(), limit: self.producers.limit() };
        let budgets = self.budgets.iter();
        let class =
            |budget: &Budget| Class { name: budget.name(), used: budget.used(), limit: budget.capacity() };
        budgets.map(class).chain([producers])
    }
}
