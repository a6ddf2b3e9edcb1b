# memspan on the CPU, as a user without rights. Models are cached and memories are kept in the volume /data.
#
#   docker build -t memspan .
#   docker run --rm -v "$PWD:/data" memspan read book.txt --into book.mem
#   docker run --rm -v "$PWD:/data" memspan ask book.mem "Who is the captain?"
#
# The folder that is mounted must be writable for user 1000, or add `--user "$(id -u)"`.
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
RUN pip install --no-cache-dir -c torch.txt .

RUN useradd --create-home --uid 1000 memspan && mkdir /data && chown memspan /data
USER memspan
ENV MEMSPAN_CACHE=/data/.cache/memspan HF_HOME=/data/.cache/huggingface
WORKDIR /data
VOLUME /data
HEALTHCHECK NONE
ENTRYPOINT ["memspan"]
