# The image of loadband. Builds with docker, podman and buildah; nothing here depends on the architecture.
# Every step leaves the same bytes each time; the builder sets the files' dates (see `make image`).

FROM debian:trixie-slim AS python
# Compiles Python's byte code again: Debian's depends on the dates of the sources, which the builder changes, and nobody
# could write it later. Modules that no program uses aren't compiled.
# Debian's packages aren't pinned: that would hold back security updates.
# hadolint ignore=DL3008
RUN apt-get update --quiet=2 \
  && apt-get install --yes --quiet=2 --no-install-recommends python3 \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/ldconfig /var/cache/debconf/*-old /var/lib/dpkg/*-old \
    /var/log/apt /var/log/*.log \
  && find /usr/lib/python3.* -name __pycache__ -prune -exec rm -r {} + \
  && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash \
    -x '/(test|pydoc_data|_pyrepl|turtle)\b' /usr/lib/python3.*

FROM python AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
# hadolint ignore=DL3008
RUN apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends python3-venv \
  && rm -rf /var/lib/apt/lists/*
COPY requirements/run.txt requirements/build.txt /source/requirements/
# pip stays in its own environment and installs into the other one from there.
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/loadband \
  && /tools/bin/pip install --require-hashes --requirement /source/requirements/build.txt \
  && /tools/bin/pip --python /opt/loadband/bin/python install --no-compile --require-hashes \
    --requirement /source/requirements/run.txt
COPY pyproject.toml README.md LICENSE /source/
COPY compose /source/compose
COPY helm/loadband/files/rules /source/helm/loadband/files/rules
COPY scenarios /source/scenarios
COPY src /source/src
# rich needs pygments, but is never asked to colour source code, so the lexers aren't compiled; neither is what only the
# other image can run.
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source \
  && /tools/bin/pip --python /opt/loadband/bin/python install --no-compile --no-deps --no-index \
    --find-links /wheels loadband \
  && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash \
    -x '/lexers/(?!_mapping|__init__)|/loadband/rebalance/' /opt/loadband/lib

FROM build AS build-rebalance
COPY requirements/kubernetes.txt /source/requirements/
RUN /tools/bin/pip --python /opt/loadband/bin/python install --no-compile --require-hashes \
    --requirement /source/requirements/kubernetes.txt \
  && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash \
    -x '/lexers/(?!_mapping|__init__)' /opt/loadband/lib

# What both images have in common.
FROM python AS program
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="loadband" \
  org.opencontainers.image.description="Holds a machine's CPU utilization inside a band and exports what it does to Prometheus" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION"
# The metric loadband_build_info shows the revision.
ENV PATH=/opt/loadband/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 LOADBAND_REVISION=$REVISION
USER 65532:65532
EXPOSE 10670
STOPSIGNAL SIGTERM
ENTRYPOINT ["loadband"]

# `make image TARGET=rebalance`: with `loadband rebalance`, its reports and the platform kubernetes.
FROM program AS rebalance
COPY --from=build-rebalance /opt/loadband /opt/loadband
# What a run says is seen while it runs.
ENV MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1

# The regulator alone: what is built by default.
FROM program
COPY --from=build /opt/loadband /opt/loadband
