# Targets of weft. `make` alone builds. Needs Go; demo, bench and the tests that
# make network namespaces need root.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X github.com/weftnet/weft/daemon/version.version=$(VERSION))
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

PREFIX ?= /usr/local
CNIDIR ?= /opt/cni/bin

# Packages tested at the same time.
TESTP ?= 2

.PHONY: build demo test test-full fuzz lint bench bench-datapath bench-go install package clean

build:
	$(GOBUILD) -o bin/weftd ./daemon
	$(GOBUILD) -o bin/weft-cni ./cni
	$(GOBUILD) -o bin/weft-bench ./bench

# KEEP=1 leaves everything running, to look around in.
demo: build
	bin/weft-bench demo $(if $(KEEP),--keep)

# Everything within a quarter of an hour on two cores: unit tests, end-to-end
# cases over the binaries just built, each benchmark once, short fuzzing.
test: build
	.ci/packages
	WEFT_BIN=$(CURDIR)/bin .ci/gotest -count=1 -p $(TESTP) -timeout 20m ./...
	.ci/fuzz 75

# The same with slow variants and more time: for slow machines, and for fuzzing
# in earnest.
test-full: build
	.ci/packages
	WEFT_TEST_FULL=1 WEFT_BIN=$(CURDIR)/bin .ci/gotest -count=1 -p $(TESTP) -timeout 90m ./...
	.ci/fuzz 900

# Shared out evenly among the fuzz targets.
FUZZ_SECONDS ?= 600
fuzz:
	.ci/fuzz $(FUZZ_SECONDS)

lint:
	.ci/lint

# Weft's udp against kernel VXLAN and others (docs/bench.md); as root, on a
# machine that does nothing else. BENCHFLAGS=--quick takes two minutes.
bench: build
	bin/weft-bench run $(BENCHFLAGS)

# The data path alone, with what the kernel carries of it and without, and the
# classic engine, against kernel VXLAN.
bench-datapath: build
	bin/weft-bench run --paths=vxlan,udp,udp-user,udp-classic $(BENCHFLAGS)

# Go benchmarks of single functions.
bench-go:
	go test -run '^$$' -bench . -benchmem ./...

# Programs, the systemd unit and what goes with it; nothing in /etc. With
# CNI_FLANNEL=1 the CNI plugin also takes the place of flannel's.
install: build
	configs/package/install bin '$(DESTDIR)' $(PREFIX) $(CNIDIR)
	$(if $(CNI_FLANNEL),ln -sfn weft-cni '$(DESTDIR)$(CNIDIR)/flannel')

# dist/weft_*.deb, and dist/weft-*.tar.gz for systems that are not Debian's.
package: build
	configs/package/build bin dist

clean:
	rm -rf bin dist
