#include "model/forward.h"
#include <initializer_list>
#include "model/gather.h"
#include "model/kv.h"
#include "model/rope.h"

namespace lutra {
namespace {

// What happens in a layer, in order; a join after each.
enum class Stage : uint32_t { attnInput, qkv, attention, outInput, out, outSum, ffnInput, gateUp, downInput, down, downSum };
constexpr uint32_t kStages = 11;

// Everything a pass writes. [m][ld] means MAX_ROWS vectors, each padded with zeros to ld.
struct State {
  const Model* model;
  ActsSet acts, downActs;  // those of `down` apart: they are made while gate and up still read theirs
  ActsSet own[MAX_THREADS];  // of a single row: every worker prepares the input of a step for itself, sooner than a join lets it go on
  Row rows[MAX_ROWS];
  uint32_t m;        // rows of this pass
  uint32_t wanted[MAX_ROWS], nWanted;  // rows whose logits are wanted
  uint32_t headRows;  // what attention gives and o reads: nHeads * headDim
  uint32_t ldDim, ldKv, ldHidden, ldWide;  // of x, q, attended; of k, v; of gate, up; the longest of them
  float *x, *q, *k, *v, *attended, *gate, *up, *rope, *logits, *partial;
  double* frequencies;   // of RoPE: [headDim / 2]
  double ropeAttention;  // and the factor of its cosines and sines
  float* sums;     // of members that hold columns: [m][ranks][ldSums]
  uint32_t ldSums;
  float* scratch[MAX_THREADS];  // a vector, then what attention needs
  uint32_t ldLogits;
  bool outFused, downFused;  // no step of its own prepares the input of o, of down
  Stage stages[kStages];     // of a layer, in this pass
  uint32_t nStages;
};
State state;

bool needAll(State& s, const Model& model) {
  s.acts.n = s.downActs.n = 0;
  bool ok = s.acts.need(*model.head);
  for (uint32_t l = 0; l < model.nLayers; l++) {
    const Layer& y = model.layers[l];
    for (const Linear* linear : {y.q, y.k, y.v, y.o, y.gate, y.up}) ok = ok && s.acts.need(*linear);
    ok = ok && s.downActs.need(*y.down);
  }
  return ok;
}

uint32_t max(uint32_t a, uint32_t b) { return a > b ? a : b; }

constexpr uint32_t kPadTiles = kVectorPad / TILE_ROWS;
uint32_t headGroup(const Model& model) { return model.nHeads / model.nHeadsKv * model.headDim; }

// Where the next product's input can be prepared piece by piece, whoever made a piece does it: two joins less.
// With slices the input is exchanged first, unless a member holds the very columns that it has made the input of: then
// sums are, and added up in a stage of their own.
void fuseStages(State& s, const Model& model) {
  s.outFused = model.ranks == 1 || model.layers[0].o->byColumns;
  s.downFused = model.ranks == 1 || model.layers[0].down->byColumns;
  for (uint32_t l = 0; l < model.nLayers; l++) {
    const Layer& y = model.layers[l];
    s.outFused = s.outFused && !y.attnSubNorm && s.acts.divisible(s.acts.mask(*y.o), headGroup(model));
    s.downFused = s.downFused && !y.ffnSubNorm && s.downActs.divisible(s.downActs.mask(*y.down), kVectorPad);
  }
}

// Of a pass over s.m rows.
void chooseStages(State& s) {
  const auto isLeftOut = [&](Stage stage) {
    switch (stage) {
      case Stage::attnInput: case Stage::ffnInput: return s.m == 1;
      case Stage::outInput: return s.outFused;
      case Stage::downInput: return s.downFused;
      case Stage::outSum: return !s.model->layers[0].o->byColumns;
      case Stage::downSum: return !s.model->layers[0].down->byColumns;
      default: return false;
    }
  };
  s.nStages = 0;
  for (uint32_t i = 0; i < kStages; i++) {
    if (const auto stage = static_cast<Stage>(i); !isLeftOut(stage)) s.stages[s.nStages++] = stage;
  }
}

KvType kvTypeOf(const State& s) { return static_cast<KvType>(s.model->kvType); }

uint64_t layOut(State& s, const Model& model, uintptr_t base) {
  if (!needAll(s, model)) return 0;
  Arena arena{base};
  s.model = &model;
  s.headRows = model.nHeads * model.headDim;
  s.ldDim = padded(max(model.dim, s.headRows));
  s.ldKv = padded(model.nHeadsKv * model.headDim);
  s.ldHidden = padded(max(model.dim, model.hiddenDim));  // what down gives is written over up
  s.ldWide = max(s.ldDim, s.ldHidden);
  s.ldLogits = padded(model.vocabSize);
  for (float** p : {&s.x, &s.q, &s.attended}) *p = arena.take<float>(uint64_t{MAX_ROWS} * s.ldDim);
  for (float** p : {&s.k, &s.v}) *p = arena.take<float>(uint64_t{MAX_ROWS} * s.ldKv);
  for (float** p : {&s.gate, &s.up}) *p = arena.take<float>(uint64_t{MAX_ROWS} * s.ldHidden);
  s.partial = arena.take<float>(uint64_t{SEGMENTS} * MAX_ROWS * s.ldWide);
  s.ldSums = padded(model.dim);
  s.sums = arena.take<float>(model.ranks > 1 ? uint64_t{MAX_ROWS} * model.ranks * s.ldSums : 0);
  s.frequencies = arena.take<double>(model.headDim / 2);
  s.rope = arena.take<float>(uint64_t{MAX_ROWS} * model.headDim);
  s.logits = arena.take<float>(uint64_t{MAX_ROWS} * s.ldLogits);
  const uint32_t scratch = attendScratch(kvTypeOf(s), model.nHeads / model.nHeadsKv, roundUp(model.contextLength, KV_BLOCK), model.headDim);
  for (float*& p : s.scratch) p = arena.take<float>(uint64_t{s.ldWide} + scratch);
  for (ActsSet& own : s.own) {
    own = s.acts;
    own.allocate(arena, 1);
    own.use(1);
  }
  s.acts.allocate(arena, MAX_ROWS);
  s.downActs.allocate(arena, MAX_ROWS);
  fuseStages(s, model);
  return arena.at - base;
}

// Heads computed here: of a slice's q or k and v, counted from its first.
uint32_t headsOf(const State& s, const Linear& l) { return l.rows / s.model->headDim; }

// Blocks of a row's session, for a layer and a KV head of this slice.
uint8_t* kvOf(const State& s, const Row& row, uint32_t layer, uint32_t head) {
  const Model& model = *s.model;
  return row.kv + (layer * headsOf(s, *model.layers[layer].k) + head) * kvHeadBytes(kvTypeOf(s), model.headDim, model.contextLength);
}

// x [cols], normalised by `norm` if there is one: in this worker's scratch.
const float* normalised(const Worker& w, State& s, const float* x, uint32_t cols, const float* norm) {
  if (!norm) return x;
  float* h = s.scratch[w.rank];
  w.ops.rmsNorm(h, x, norm, cols, s.model->normEps);
  for (uint32_t k = cols; k < padded(cols); k++) h[k] = 0;
  return h;
}

// Vectors of `source` prepared for the given layers.
// With fewer vectors than workers each vector is shared by columns, the norm being computed by everyone.
void prepare(const Worker& w, State& s, ActsSet& acts, const float* source, uint32_t ld, uint32_t cols, const float* norm, uint32_t mask,
             const uint32_t* which, uint32_t m) {
  const bool alone = m >= w.ranks;
  for (uint32_t i = alone ? w.rank : 0; i < m; i += alone ? w.ranks : 1) {
    const float* x = normalised(w, s, source + (which ? which[i] : i) * ld, cols, norm);
    const Range blocks = share(padded(cols) / kVectorPad, w.rank, w.ranks);
    prepareActs(w.ops, acts, mask, x, cols, i, alone ? Range{0, cols} : Range{blocks.begin * kVectorPad, blocks.end * kVectorPad});
  }
}

// One vector of the residual stream prepared by this worker for itself.
ActsSet& prepareOwn(const Worker& w, State& s, const float* x, const float* norm, uint32_t mask) {
  prepareActs(w.ops, s.own[w.rank], mask, normalised(w, s, x, s.model->dim, norm), s.model->dim, 0, {0, s.model->dim});
  return s.own[w.rank];
}

void apply(const Worker& w, State& s, ActsSet& acts, const Linear& l, float* out, uint32_t ld, Range tiles) {
  applyLinear(w.ops, l, acts, out, s.partial, ld, tiles);
}

// x += layer(prepared), in pieces of rows; by columns: this member's sums.
void addOutput(const Worker& w, State& s, ActsSet& acts, const Linear& l, float* y, uint32_t ld) {
  const Pieces pieces = Pieces::of(l.rows, kMostStreams, w.ranks);
  w.eachPiece(pieces.count(), [&](uint32_t piece) {
    const Range tiles = pieces[piece];
    apply(w, s, acts, l, y, ld, tiles);
    for (uint32_t m = 0; m < s.m; m++) {
      float* x = s.x + m * s.ldDim + l.firstRow;
      float* sums = s.sums + (m * s.model->ranks + s.model->rank) * s.ldSums;
      for (uint32_t i = tiles.begin * TILE_ROWS; i < tiles.end * TILE_ROWS; i++) {
        if (l.byColumns) sums[i] = y[m * ld + i];
        else x[i] += y[m * ld + i];
      }
    }
  });
}

// x += rowScale * (sums of all members) + bias, in the order of segments, which is that of a layer held whole.
void addSums(State& s, const Linear& l) {
  for (uint32_t m = 0; m < s.m; m++) {
    const float *p0 = s.sums + m * s.model->ranks * s.ldSums, *p1 = p0 + s.ldSums, *p2 = p1 + s.ldSums, *p3 = p2 + s.ldSums;
    float* x = s.x + m * s.ldDim;
    for (uint32_t r = 0; r < l.rows; r++) {
      float y = s.model->ranks == 2 ? p0[r] + p1[r] : (p0[r] + p1[r]) + (p2[r] + p3[r]);
      if (l.rowScale) y = y * l.rowScale[r];
      if (l.bias) y = y + l.bias[r];
      x[r] += y;
    }
  }
}

// q, k, v in pieces of whole heads; as nobody else touches them, their norms, RoPE and the KV cache follow at once.
void qkv(const Worker& w, State& s, uint32_t layer) {
  const Model& model = *s.model;
  const Layer& y = model.layers[layer];
  const uint32_t headDim = model.headDim;
  ActsSet& acts = s.m == 1 ? prepareOwn(w, s, s.x, y.attnNorm, s.acts.mask(*y.q) | s.acts.mask(*y.k) | s.acts.mask(*y.v)) : s.acts;
  uint32_t unit = TILE_ROWS;
  while (unit % headDim) unit += TILE_ROWS;
  const Pieces q = Pieces::of(y.q->rows, unit / TILE_ROWS, w.ranks), kv = Pieces::of(y.k->rows, unit / TILE_ROWS, w.ranks);
  // Calls work(vector, head) for the heads whose rows are in `tiles`.
  const auto eachHead = [&](Range tiles, uint32_t heads, auto work) {
    for (uint32_t m = 0; m < s.m; m++) {
      for (uint32_t h = tiles.begin * TILE_ROWS / headDim; h < tiles.end * TILE_ROWS / headDim && h < heads; h++) work(m, h);
    }
  };
  const auto rotate = [&](float* head, const float* norm, uint32_t m) {
    if (norm) w.ops.rmsNorm(head, head, norm, headDim, model.normEps);
    w.ops.rope(head, s.rope + m * headDim, headDim);
  };
  w.eachPiece(q.count() + kv.count(), [&](uint32_t piece) {
    if (piece < q.count()) {
      apply(w, s, acts, *y.q, s.q, s.ldDim, q[piece]);
      eachHead(q[piece], headsOf(s, *y.q), [&](uint32_t m, uint32_t h) { rotate(s.q + m * s.ldDim + h * headDim, y.qNorm, m); });
    } else {
      const Range tiles = kv[piece - q.count()];
      apply(w, s, acts, *y.k, s.k, s.ldKv, tiles);
      apply(w, s, acts, *y.v, s.v, s.ldKv, tiles);
      eachHead(tiles, headsOf(s, *y.k), [&](uint32_t m, uint32_t h) {
        const size_t at = m * s.ldKv + h * headDim;
        rotate(s.k + at, y.kNorm, m);
        storeKv(kvTypeOf(s), kvOf(s, s.rows[m], layer, h), s.rows[m].position, headDim, s.k + at, s.v + at);
      });
    }
  });
}

// Query heads that share a KV head are computed together, so that it is read from memory once.
void attention(const Worker& w, State& s, uint32_t layer) {
  const Model& model = *s.model;
  const Layer& y = model.layers[layer];
  const uint32_t heads = headsOf(s, *y.k), mask = s.acts.mask(*y.o);
  const bool fused = s.outFused;
  w.eachPiece(s.m * heads, [&](uint32_t piece) {
    const uint32_t m = piece / heads, kvHead = piece % heads;
    const size_t at = m * s.ldDim + kvHead * headGroup(model);
    w.ops.attend[model.kvType](s.attended + y.q->firstRow + at, s.q + at, model.nHeads / model.nHeadsKv, kvOf(s, s.rows[m], layer, kvHead),
                               s.rows[m].position, model.headDim, s.scratch[w.rank] + s.ldWide);
    if (fused) {
      const uint32_t begin = y.q->firstRow + kvHead * headGroup(model);
      prepareActs(w.ops, s.acts, mask, s.attended + m * s.ldDim, s.headRows, m, {begin, begin + headGroup(model)});
    }
  });
}

void layerStage(const Worker& w, State& s, uint32_t layer, Stage stage) {
  const Model& model = *s.model;
  const Layer& y = model.layers[layer];
  const auto mask = [&](const Linear* l) { return s.acts.mask(*l); };
  switch (stage) {
    case Stage::attnInput: return prepare(w, s, s.acts, s.x, s.ldDim, model.dim, y.attnNorm, mask(y.q) | mask(y.k) | mask(y.v), nullptr, s.m);
    case Stage::qkv: return qkv(w, s, layer);
    case Stage::attention: return attention(w, s, layer);
    case Stage::outInput: return prepare(w, s, s.acts, s.attended, s.ldDim, s.headRows, y.attnSubNorm, mask(y.o), nullptr, s.m);
    case Stage::out: return addOutput(w, s, s.acts, *y.o, s.q, s.ldDim);
    case Stage::outSum: return addSums(s, *y.o);
    case Stage::ffnInput: return prepare(w, s, s.acts, s.x, s.ldDim, model.dim, y.ffnNorm, mask(y.gate) | mask(y.up), nullptr, s.m);
    case Stage::gateUp: {
      const bool fused = s.downFused;
      ActsSet& acts = s.m == 1 ? prepareOwn(w, s, s.x, y.ffnNorm, mask(y.gate) | mask(y.up)) : s.acts;
      const Pieces pieces = Pieces::of(y.gate->rows, fused ? kPadTiles : kMostStreams, w.ranks);
      float *const gate = s.gate + y.gate->firstRow, *const up = s.up + y.up->firstRow;
      return w.eachPiece(pieces.count(), [&](uint32_t piece) {
        const Range tiles = pieces[piece];
        apply(w, s, acts, *y.gate, gate, s.ldHidden, tiles);
        apply(w, s, acts, *y.up, up, s.ldHidden, tiles);
        const uint32_t begin = tiles.begin * TILE_ROWS, n = (tiles.end - tiles.begin) * TILE_ROWS;
        for (uint32_t m = 0; m < s.m; m++) {
          w.ops.gatedUnit(gate + m * s.ldHidden + begin, up + m * s.ldHidden + begin, n, static_cast<Activation>(model.activation));
          const uint32_t first = y.gate->firstRow + begin;
          if (fused) prepareActs(w.ops, s.downActs, s.downActs.mask(*y.down), s.gate + m * s.ldHidden, model.hiddenDim, m, {first, first + n});
        }
      });
    }
    case Stage::downInput: return prepare(w, s, s.downActs, s.gate, s.ldHidden, model.hiddenDim, y.ffnSubNorm, s.downActs.mask(*y.down), nullptr, s.m);
    case Stage::down: return addOutput(w, s, s.downActs, *y.down, s.up, s.ldHidden);
    case Stage::downSum: return addSums(s, *y.down);
  }
}

void embed(const Worker& w, State& s) {
  for (uint32_t m = w.rank; m < s.m; m += w.ranks) {
    if (s.model->embedding) gatherRow(*s.model->embedding, s.rows[m].token, s.x + m * s.ldDim);
    ropeAngles(s.frequencies, s.ropeAttention, s.model->headDim, s.rows[m].position, s.rope + m * s.model->headDim);
  }
}

}  // namespace

uint64_t planForward(const Model& model) {
  static State scratch;
  return layOut(scratch, model, 0);
}

void bindForward(const Model& model, void* base) { layOut(state, model, reinterpret_cast<uintptr_t>(base)); }

void setRows(const Row* rows, uint32_t m) {
  State& s = state;
  s.m = m;
  s.acts.use(m);
  s.downActs.use(m);
  s.ropeAttention = ropeFrequencies(*s.model->rope, s.model->headDim, s.frequencies);  // not in bind: weights come later
  s.nWanted = 0;
  for (uint32_t i = 0; i < m; i++) {
    s.rows[i] = rows[i];
    if (rows[i].wantLogits) s.wanted[s.nWanted++] = i;
  }
  chooseStages(s);
}

// embed | stages of every layer | of several rows norm and preparation for the head | head
uint32_t forwardSteps() { return 1 + state.model->nLayers * state.nStages + (state.nWanted < 2 ? state.nWanted : 2); }

void forwardStep(uint32_t step, uint32_t rank, uint32_t ranks, uint32_t* tickets) {
  State& s = state;
  const Model& model = *s.model;
  const Worker w{model.reference ? referenceOps : fastOps, rank, ranks, tickets};
  const uint32_t layersEnd = 1 + model.nLayers * s.nStages;
  if (step == 0) return embed(w, s);
  if (step < layersEnd) {
    return layerStage(w, s, (step - 1) / s.nStages, s.stages[(step - 1) % s.nStages]);
  }
  const Linear& head = *model.head;
  if (s.nWanted > 1 && step == layersEnd) {
    s.acts.use(s.nWanted);  // every worker writes the same
    return prepare(w, s, s.acts, s.x, s.ldDim, model.dim, model.norm, s.acts.mask(head), s.wanted, s.nWanted);
  }
  ActsSet& acts = s.nWanted == 1 ? prepareOwn(w, s, s.x + s.wanted[0] * s.ldDim, model.norm, s.acts.mask(head)) : s.acts;
  const Pieces pieces = Pieces::of(head.rows, kMostStreams, w.ranks);
  w.eachPiece(pieces.count(), [&](uint32_t piece) { applyLinear(w.ops, head, acts, s.logits + head.firstRow, nullptr, s.ldLogits, pieces[piece]); });
}

const Exchange* exchangeAfter(uint32_t step) {
  static Exchange exchange;
  const State& s = state;
  const Model& model = *s.model;
  if (model.ranks == 1) return nullptr;
  const auto after = [&](Collective how, float* values, uint32_t ld, uint32_t m, const Linear& l, uint32_t width) {
    exchange = {static_cast<uint32_t>(how), values, ld, m, l.firstRow, l.firstRow + l.rows, width};
    return &exchange;
  };
  const auto allGather = [&](float* values, uint32_t ld, const Linear& l, uint32_t width) { return after(Collective::allGather, values, ld, s.m, l, width); };
  const auto sums = [&] {
    const uint32_t begin = model.rank * s.ldSums, width = model.ranks * s.ldSums;
    return after(Collective::allGather, s.sums, width, s.m, {.rows = model.dim, .firstRow = begin}, width);
  };
  const uint32_t layersEnd = 1 + model.nLayers * s.nStages;
  if (step == 0) return after(Collective::broadcast, s.x, s.ldDim, s.m, {.rows = model.dim}, model.dim);
  if (step >= layersEnd) return s.nWanted > 1 && step == layersEnd ? nullptr : after(Collective::gather, s.logits, s.ldLogits, s.nWanted, *model.head, model.vocabSize);
  const Layer& y = model.layers[(step - 1) / s.nStages];
  switch (s.stages[(step - 1) % s.nStages]) {
    case Stage::attention: return y.o->byColumns ? nullptr : allGather(s.attended, s.ldDim, *y.q, s.headRows);
    case Stage::out: return y.o->byColumns ? sums() : allGather(s.x, s.ldDim, *y.o, model.dim);
    case Stage::gateUp: return y.down->byColumns ? nullptr : allGather(s.gate, s.ldHidden, *y.gate, model.hiddenDim);
    case Stage::down: return y.down->byColumns ? sums() : allGather(s.x, s.ldDim, *y.down, model.dim);
    default: return nullptr;
  }
}

float* logitsOf(uint32_t i) { return state.logits + static_cast<size_t>(i) * state.ldLogits; }
uint32_t vocabSize() { return state.model->vocabSize; }

}  // namespace lutra
