// Package bench measures what we may publish, between separate processes on this
// machine's loopback, through the web API that users have. `make bench` runs it.
//
// BenchmarkBesideTahoe (Linux) is the comparison: ten storage servers, 3-of-10,
// ours and the real Tahoe in turn in the same run. Read its ratios first: what else
// the machine does meanwhile disturbs both. It shows what the machine can do
// beside, CPU seconds and the peak memory of the processes; all of it is in its
// JSON file, so that tables can be made from that. BenchmarkMutableBesideTahoe is the
// same of directories and MDMF files. The BenchmarkFolder... (Linux) are two participants
// of a magic folder on five servers, 3-of-5, and the real magic-folder 24.3 on Tahoe in
// the same run; their tables are in folders.json. The others are ours alone: five storage servers, 3-of-5.
//
// Rates stand beside the rate at which the same machine, in the same run, computes
// SHA-256 on one core ("of-sha256"), so that two machines, or a busy and an idle
// one, can be compared.
package bench
