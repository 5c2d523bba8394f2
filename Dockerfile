FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package polyphony

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* && useradd --system --uid 10001 polyphony
COPY --from=build /src/target/release/polyphony /usr/local/bin/polyphony
USER polyphony
ENV POLYPHONY_HTTP_ADDR=0.0.0.0:8080 POLYPHONY_METRICS_ADDR=0.0.0.0:9090
EXPOSE 8080
ENTRYPOINT ["polyphony"]
CMD ["all"]
