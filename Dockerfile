# clerk-relay in a container: a small image, no root, the store on a volume.
#
#   docker build -t clerk-relay .
#   docker run --rm -it clerk-relay dev
#   docker run -p 8080:8080 -v relay-data:/data -v ./relay.yaml:/etc/clerk-relay/relay.yaml:ro clerk-relay
#
# The configuration is a file at /etc/clerk-relay/relay.yaml or the content of CLERK_RELAY_YAML; none is built in.
# A folder of the host mounted at /data must be writable for user 10001.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies alone, so that a change of ours does not compile them again. Tests, benchmarks and examples leave
# the manifest for this step, because cargo wants the files of every target that it names.
COPY Cargo.toml Cargo.lock ./
RUN cp Cargo.toml /tmp/Cargo.toml.whole \
    && awk '/^\[/ { dropped = /^\[\[(test|bench|example)\]\]/ } !dropped' /tmp/Cargo.toml.whole > Cargo.toml \
    && mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build --locked --profile dist

COPY . .
# Cargo goes by file times, and the copied sources may be older than the stand-ins compiled above.
RUN touch src/lib.rs src/main.rs && cargo build --locked --profile dist --bin clerk-relay

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 relay \
    && useradd --uid 10001 --gid relay --home-dir /data --no-create-home --shell /usr/sbin/nologin relay \
    && install --directory --owner=relay --group=relay --mode=0750 /data \
    && install --directory /etc/clerk-relay
COPY --from=build /build/target/dist/clerk-relay /usr/local/bin/clerk-relay

ENV CLERK_RELAY_CONFIG=/etc/clerk-relay/relay.yaml
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
# A relative store address, as in `sqlite:relay.db`, lies on the volume.
WORKDIR /data
VOLUME /data
# Webhooks; admin API and health.
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["clerk-relay", "health"]
ENTRYPOINT ["clerk-relay"]
CMD ["run"]
