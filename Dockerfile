# clinit, as a static binary in an image of its own, to copy from:
#
#   docker build -t clinit .
#
#   FROM your-image
#   COPY --from=clinit /clinit /clinit
#   ENTRYPOINT ["/clinit","-i","max","-l","8080","--","/app/server"]
#
# Any image with cargo, a C linker and a static C library can build it:
#
#   docker build --build-arg BUILDER=rust:1-alpine -t clinit .

ARG BUILDER=rust:1-bookworm
FROM ${BUILDER} AS build
WORKDIR /clinit
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./

# The dependencies first, so that a change in src/ alone does not build them
# again.
RUN mkdir src \
    && : >src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked \
    && rm -r src

# Files from the context keep their times, which are older than the empty
# build above: cargo would take them for built.
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked \
    && cp target/*/release/clinit .

FROM scratch
COPY --from=build /clinit/clinit /clinit
# clinit needs no root. An image that copies from this one does not inherit
# this; one that is built FROM it does.
USER 65532:65532
ENTRYPOINT ["/clinit"]
