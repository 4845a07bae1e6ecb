import { useRef, useState } from 'react';
import { Button, ScrollView, Text, TextInput, View } from 'react-native';
import { LutraBridge, LutraView } from 'lutra/react-native';

/** Any packed model behind a server that allows other origins (CORS). */
const MODEL = 'https://example.org/stories.lutra.safetensors';

export function App() {
  const lutra = useRef(null);
  lutra.current ??= new LutraBridge();
  const model = useRef(null);
  const writing = useRef(null);
  const [url, setUrl] = useState(MODEL);
  const [prompt, setPrompt] = useState('Once upon a time');
  const [story, setStory] = useState('');
  const [status, setStatus] = useState('');

  async function write() {
    try {
      // The page may have been ended since the last time: then the model is read again, from the device.
      model.current ??= await lutra.current.loadModel(url, {
        onProgress: ({ phase, loaded, total }) => setStatus(`${phase} ${Math.round(100 * loaded / total)} %`),
      });
      const { cache } = lutra.current.status;
      setStory(prompt);
      writing.current = model.current.generate(prompt, { maxTokens: 200 });
      for await (const { text } of writing.current) setStory(before => before + text);
      const { timings } = await writing.current.result;
      setStatus(`${timings.decodeTokensPerSecond.toFixed(0)} tokens/s${cache ? '' : ', no cache: the page has no origin'}`);
    } catch (error) {
      setStatus(`${error.message}\n${error.hint ?? ''}`);
      if (error.code === 'ENGINE_CRASH') model.current = null;
    } finally {
      writing.current = null;
    }
  }

  return (
    <View style={{ flex: 1, padding: 16, paddingTop: 64, gap: 12 }}>
      <LutraView lutra={lutra.current} onLost={() => { model.current = null; }} />
      <TextInput value={url} onChangeText={text => { setUrl(text); model.current = null; }} autoCapitalize="none" />
      <TextInput value={prompt} onChangeText={setPrompt} multiline />
      <Button title="Write" onPress={write} />
      <Button title="Stop" onPress={() => writing.current?.cancel()} />
      <ScrollView style={{ flex: 1 }}><Text style={{ fontSize: 18, lineHeight: 28 }}>{story}</Text></ScrollView>
      <Text>{status}</Text>
    </View>
  );
}
