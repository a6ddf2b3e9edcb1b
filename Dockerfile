# memspan on the CPU, as a user without rights; everything that it writes is in the volume /data, so that the rest may be read-only.
#
#   docker build -t memspan .
#   docker run --rm -v "$PWD:/data" memspan read book.txt --into memories/webui/book
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/data" -p 127.0.0.1:8000:8000 -e MEMSPAN_SERVER_KEYS=webui:KEY memspan
#
# The folder that is mounted must be writable for user 1000, or add `--user "$(id -u)"`. compose.yaml adds Open WebUI.
FROM python:3.11-slim

# The address of a package index with CPU builds of torch, as PyTorch's installation page names it; without one pip
# fetches the default build with several gigabytes of CUDA libraries: docker build --build-arg TORCH_INDEX=... .
ARG TORCH_INDEX=
WORKDIR /src
COPY constraints.txt ./
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY memspan ./memspan
RUN pip install --no-cache-dir -c constraints.txt '.[serve]'

RUN useradd --create-home --uid 1000 memspan && mkdir /data && chown memspan /data
# By number, so that a cluster that starts no container as root can tell that this one is not.
USER 1000
ENV MEMSPAN_CACHE=/data/.cache/memspan \
    HF_HOME=/data/.cache/huggingface \
    XDG_STATE_HOME=/data/.state \
    XDG_CACHE_HOME=/data/.cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Of the server; the first start also fetches the model. `docker run --no-healthcheck` for other commands that take long.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# As Ctrl-C does: the first process of a container does not end at SIGTERM while it loads a model or reads a document.
STOPSIGNAL SIGINT
ENTRYPOINT ["memspan"]
CMD ["serve", "/data/memories", "--host", "0.0.0.0", "--port", "8000"]
