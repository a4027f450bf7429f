//! Every API in every version.

use super::{
    bed::Bed,
    catalogue::{World, requests},
};
use thalweg_protocol::ApiKey;

/// A broker with the topics that the catalogue is about.
pub async fn furnished() -> (Bed, World) {
    furnished_with(&[]).await
}

/// The same with these settings.
pub async fn furnished_with(settings: &[(&str, &str)]) -> (Bed, World) {
    let bed = Bed::with(settings).await;
    let id = bed.create("there", 2, &[]).await;
    bed.create("empty", 1, &[]).await;
    bed.create("col.lide", 1, &[]).await;
    (bed, World { there: "there", id, round: 0 })
}

#[tokio::test]
async fn every_api_answers_in_every_version_with_fields_that_the_version_has() {
    let (bed, world) = furnished().await;
    for api in ApiKey::ALL.iter().copied() {
        let (first, last) = api.versions();
        for version in first..=last {
            for (name, request) in requests(api, version, &world) {
                println!("{api:?} {version}: {name}");
                let answer = bed.ask(version, request).await;
                assert!(answer.is_some(), "{api:?} {version}: {name}");
            }
        }
    }
}
