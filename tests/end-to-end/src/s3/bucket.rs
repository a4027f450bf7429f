use super::signature;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::net::SocketAddr;

/// A bucket at an S3 endpoint, with connections that are kept. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: SocketAddr,
    name: String,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Bucket {
    /// The bucket `name` at `endpoint`, with the account of [`crate::servers::MinIo`].
    pub fn new(endpoint: SocketAddr, name: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, endpoint, name: name.to_owned() }
    }

    /// Creates the bucket; fine if it exists.
    pub async fn create(&self) -> Result<()> {
        match self.send(Method::PUT, &format!("/{}", self.name), "", Bytes::new()).await? {
            (StatusCode::OK | StatusCode::CONFLICT, _) => Ok(()),
            (status, body) => {
                bail!("creating bucket {}: {status} {}", self.name, String::from_utf8_lossy(&body))
            }
        }
    }

    /// Whether the endpoint answers requests (with anything but a failure of its own).
    pub async fn is_serving(&self) -> bool {
        let answer = self.send(Method::HEAD, &format!("/{}", self.name), "", Bytes::new()).await;
        answer.is_ok_and(|(status, _)| !status.is_server_error())
    }

    /// One PUT.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.expect_ok(Method::PUT, key, body).await.map(drop)
    }

    /// One GET of a whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.expect_ok(Method::GET, key, Bytes::new()).await
    }

    /// One DELETE.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.expect_ok(Method::DELETE, key, Bytes::new()).await.map(drop)
    }

    /// All objects whose keys begin with `prefix`, in order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.list_page(prefix, &after).await?;
            found.extend(listed(&page));
            match found.last() {
                Some(last) if page.contains("<IsTruncated>true<") => after = last.key.clone(),
                _ => return Ok(found),
            }
        }
    }

    async fn list_page(&self, prefix: &str, after: &str) -> Result<String> {
        let (prefix, after) = (signature::encode(prefix, ""), signature::encode(after, ""));
        let query = format!("list-type=2&prefix={prefix}&start-after={after}");
        let (status, body) = self.send(Method::GET, &format!("/{}", self.name), &query, Bytes::new()).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        if status != StatusCode::OK {
            bail!("listing {}: {status} {body}", self.name);
        }
        Ok(body)
    }

    async fn expect_ok(&self, method: Method, key: &str, body: Bytes) -> Result<Bytes> {
        let path = format!("/{}/{}", self.name, signature::encode(key, "/"));
        let (status, body) = self.send(method.clone(), &path, "", body).await?;
        if !status.is_success() {
            bail!("{method} {key}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let host = self.endpoint.to_string();
        let now = signature::now();
        let request = Request::builder()
            .method(&method)
            .uri(format!("http://{host}{path}{}{query}", if query.is_empty() { "" } else { "?" }))
            .header("host", &host)
            .header("x-amz-date", &now)
            .header("x-amz-content-sha256", signature::UNSIGNED)
            .header("authorization", signature::authorization(method.as_str(), &host, path, query, &now))
            .body(Full::new(body))?;
        let response = self.client.request(request).await.with_context(|| format!("{method} {path}"))?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
    }
}

/// The keys and sizes in a `ListObjectsV2` answer. Our keys have no characters that XML escapes.
fn listed(page: &str) -> Vec<Listed> {
    let element = |text: &str, name: &str| {
        let (_, behind) = text.split_once(&format!("<{name}>"))?;
        Some(behind.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let object =
        |text: &str| Some(Listed { key: element(text, "Key")?, size: element(text, "Size")?.parse().ok()? });
    page.split("<Contents>").skip(1).filter_map(object).collect()
}

/// Today as `YYYY-MM-DD`, in UTC.
pub fn today() -> String {
    signature::date_of(&signature::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_gives_keys_and_sizes() {
        let page = "<ListBucketResult><Contents><Key>a/1</Key><Size>3</Size></Contents>\
                    <Contents><Key>a/2</Key><Size>40</Size></Contents></ListBucketResult>";
        let keys: Vec<_> = listed(page).into_iter().map(|object| (object.key, object.size)).collect();
        assert_eq!(keys, [("a/1".to_owned(), 3), ("a/2".to_owned(), 40)]);
    }
}
