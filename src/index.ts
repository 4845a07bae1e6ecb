/** Lutra: 2-bit and ternary language models on any CPU. */
export { loadModel, Generation, Model, Session } from './model.js';
export type {
  ChatOptions, GenerateOptions, GenerationResult, LoadOptions, LoadProgress, ModelInfo, ModelSource, Piece, Prompt, ScoreOptions, Scores, Timings, TokenizeOptions, WeightLevel,
} from './runtime/types.js';
export type { ChatMessage, TemplateVariables } from './chat/conversation.js';
export { environment, type Environment } from './engine/environment.js';
export type { CrewName as Crew, EngineInfo } from './engine/types.js';
export type { ModelConfig } from './formats/types.js';
export {
  BadArgumentError, BadModelFileError, ChatTemplateError, ContextFullError, DisposedError, DownloadError, EngineCrashError, EnvironmentError, FileAccessError, LutraError, OutOfMemoryError,
  UnsupportedFormatError,
} from './errors.js';
