# CPU.   docker build -t ppdl . && docker run --rm -v ppdl-keys:/keys -v "$PWD/reports:/ppdl/reports" ppdl make repro     (or make test)
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /ppdl
COPY . .
RUN make setup
RUN mkdir -m 700 /keys
ENV PPDL_PRIVATE_KEY_DIR=/keys
CMD ["make", "repro"]
