# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the benchmarks share.
median() {
    sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
