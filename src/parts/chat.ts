/** The part that writes chats by a model's template. */
export { ChatWriter } from '../chat/chat.js';
