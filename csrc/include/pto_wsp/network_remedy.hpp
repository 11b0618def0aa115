// What would let a blocked network go on.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/network.hpp"

namespace pto_wsp {

/// Who waits to send waits for all that may receive from the channel; who waits to receive, for all that may still send into it. Of
/// the full channels on cycles of such waits, and of those that nobody will receive from any more, the smallest, ties from the lowest
/// number: the one to raise. None: no capacity helps. `produces` (by process: channels) and `consumers` (by channel: processes) say
/// who may send and receive. `buffers`, if there are any: by channel, the one in which the numbers of its free buffers wait, or `none`.
/// Who waits for such a number waits for a place too: a deeper channel has more buffers. Takes time linear in processes, channels and
/// their ends.
std::optional<std::uint32_t> channel_to_raise(const Network& network, std::span<const std::vector<std::uint32_t>> produces,
                                              std::span<const std::vector<std::uint32_t>> consumers, std::span<const std::uint32_t> buffers);

}  // namespace pto_wsp
