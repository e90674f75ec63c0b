# CPU.   docker build -t ppdl . && docker run --rm -v ppdl-keys:/keys ppdl make repro     (or make test)
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /ppdl
COPY . .
RUN make setup
ENV PPDL_PRIVATE_KEY_DIR=/keys
CMD ["make", "repro"]
